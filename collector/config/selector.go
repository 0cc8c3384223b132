// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sheetbend/sheetbend/collector/record"
)

// AllAgents stands for every dialect in Selector.Agents.
const AllAgents = "*"

// Select finds the sandbox that a cgroup path lies in: the path of its topmost directory
// and the index of the selector that chose it. A sandbox is the shallowest
// directory that any selector matches; of several selectors for it the first wins.
func Select(selectors []Selector, cgroup string) (root string, selector int, ok bool) {
	for end := 1; end <= len(cgroup); end++ {
		if end < len(cgroup) && cgroup[end] != '/' {
			continue
		}
		for i := range selectors {
			// path.Match errs on malformed globs only, which Validate refuses.
			if match, err := path.Match(selectors[i].Cgroup, cgroup[:end]); err == nil && match && selectors[i].Container == nil {
				return cgroup[:end], i, true
			}
		}
	}
	return "", 0, false
}

// ContainerSelector chooses containers by what their runtime says. All that is given has to hold; of a list one.
type ContainerSelector struct {
	Kubernetes bool              `json:"kubernetes"` // containers of pods; otherwise those of none
	Namespaces []string          `json:"namespaces,omitempty"`
	Handlers   []string          `json:"handlers,omitempty"`   // runtime handlers of pods
	Containers []string          `json:"containers,omitempty"` // names; patterns of path.Match
	Labels     map[string]string `json:"labels,omitempty"`     // "*": the label is there

	Annotations map[string]string `json:"annotations,omitempty"` // of pods, as Labels
}

// Chooses says whether the selector matches. A pod's own container, which only waits, is never chosen.
func (s *ContainerSelector) Chooses(c *record.Container) bool {
	pod := c.Pod != "" || c.PodUID != ""
	name := c.Name
	if s.Kubernetes {
		name = c.PodPart
	}
	if pod != s.Kubernetes || pod && c.PodPart == "" {
		return false
	}
	if len(s.Namespaces) > 0 && !slices.Contains(s.Namespaces, c.Namespace) || len(s.Handlers) > 0 && !slices.Contains(s.Handlers, c.Handler) {
		return false
	}
	if len(s.Containers) > 0 && !slices.ContainsFunc(s.Containers, func(glob string) bool { ok, err := path.Match(glob, name); return ok && err == nil }) {
		return false
	}
	return have(c.Labels, s.Labels) && have(c.Annotations, s.Annotations)
}

// have says whether all that is wanted is among the pairs.
func have(pairs []record.Pair, wanted map[string]string) bool {
	for key, want := range wanted {
		i := slices.IndexFunc(pairs, func(p record.Pair) bool { return p.Key == key })
		if i < 0 || want != "*" && pairs[i].Value != want {
			return false
		}
	}
	return true
}

// ChooseContainer gives the first selector that chooses a container.
func ChooseContainer(selectors []Selector, c *record.Container) (Selector, bool) {
	for _, s := range selectors {
		if s.Container == nil || !s.Container.Chooses(c) {
			continue
		}
		s.Session = strings.NewReplacer("{namespace}", c.Namespace, "{pod}", c.Pod, "{container}", cmp.Or(c.PodPart, c.Name)).Replace(s.Session)
		if session := Annotation(c, SessionAnnotation); session != "" {
			s.Session = session
		}
		return s, true
	}
	return Selector{}, false
}

func (s *ContainerSelector) validate() error {
	if len(s.Namespaces) > maxSelectors || len(s.Handlers) > maxSelectors || len(s.Containers) > maxSelectors || len(s.Labels) > record.MaxPairs || len(s.Annotations) > record.MaxPairs-2 { // less those that name session and call
		return errors.New("a list is too long")
	}
	for _, glob := range s.Containers {
		if _, err := path.Match(glob, ""); err != nil {
			return fmt.Errorf("container %q: %w", glob, err)
		}
	}
	return nil
}

// Finds says whether the selector asks for agents of this name, wherever they are.
func (s Selector) Finds(name string) bool {
	return slices.Contains(s.Agents, AllAgents) || slices.Contains(s.Agents, name)
}

// Annotations of a pod that say whose its containers are. They are the word of whoever made the pod: stronger than what
// is seen in it.
const (
	SessionAnnotation = "sheetbend.github.io/session-id"
	CallAnnotation    = "sheetbend.github.io/call-id"
)

// Annotation gives the value of an annotation of the container's pod as valid UTF-8; "" where there is none.
func Annotation(c *record.Container, key string) string {
	for _, a := range c.Annotations {
		if a.Key == key {
			return strings.ToValidUTF8(a.Value, "\uFFFD")
		}
	}
	return ""
}
