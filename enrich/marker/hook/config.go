// SPDX-License-Identifier: Apache-2.0

package hook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/tailscale/hujson"
)

type group struct {
	Matcher string    `json:"matcher,omitempty"`
	Hooks   []handler `json:"hooks"`
}

type handler struct {
	Type    string `json:"type"`
	Command string `json:"command"`
	Timeout int    `json:"timeout,omitempty"`
}

// Command is what the agent's shell runs: nothing where the program is gone, else that in its place. It is the same in
// all shells, and by it the collector distinguishes a hook's shell from that of a call (attribution.StartsHook).
func Command(program, agent string) string {
	return "test ! -x " + quote(program) + " || exec " + quote(program) + " hook " + agent
}

// quote makes one word of s for any shell.
func quote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@%") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// ours recognises a command of Command, with any program whose name begins with ours.
func ours(command, agent string) bool {
	return regexp.MustCompile(`(^|[/ '])sheetbend[^/ ']*'? hook ` + regexp.QuoteMeta(agent) + `$`).MatchString(command)
}

// Install gives the text of the agent's configuration file with the hooks in it. Everything else stays, byte for
// byte. A nil text is a file that is not there. If the hooks are there already, the text comes back as it is.
// version is the agent's; "" is one that is not known, and counts as a current one.
func (p *Place) Install(text []byte, program, version string) ([]byte, error) {
	command := Command(program, p.Agent)
	events := p.events(version)
	if p.installed(text, command, events) {
		return text, nil
	}
	if base := path.Base(program); !strings.HasPrefix(base, "sheetbend") {
		return nil, fmt.Errorf("this program is called %s: the sensor knows hooks by the name sheetbend, "+
			"so give it that name first", base)
	}
	made := text == nil || len(bytes.TrimSpace(text)) > 0 // here, or by an earlier Install if nothing else is in it
	text, err := p.Uninstall(text, program)
	if err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(text)) == 0 {
		text = []byte("{}\n")
		if made {
			text = []byte("{}" + madeByUs)
		}
	}
	root, err := parse(text)
	if err != nil {
		return nil, err
	}
	s := styleOf(text)
	for _, e := range events {
		if err := s.addGroup(root, e.Name, e.group(command)); err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name, err)
		}
	}
	return root.Pack(), nil
}

func (e *PlaceEvent) group(command string) group {
	return group{Matcher: e.Matcher, Hooks: []handler{{"command", command, timeout}}}
}

// Settings gives the hooks as a settings file of the agent that has nothing else: {"hooks": {…}}. program and version
// are those of Install. Such a file is for one run; the program has to be called sheetbend, as for Install.
func (p *Place) Settings(program, version string) []byte {
	hooks := map[string][]group{}
	for _, e := range p.events(version) {
		hooks[e.Name] = append(hooks[e.Name], e.group(Command(program, p.Agent)))
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(map[string]any{"hooks": hooks}) // of strings and numbers only
	return bytes.TrimSpace(b.Bytes())
}

// Complete reports whether the text has all the hooks that a version of the agent knows, of one program called sheetbend;
// "" is a current one.
func (p *Place) Complete(text []byte, version string) bool {
	var file struct {
		Hooks map[string][]group `json:"hooks"`
	}
	if json.Unmarshal(text, &file) != nil {
		return false
	}
	for _, groups := range file.Hooks {
		for _, g := range groups {
			for _, h := range g.Hooks {
				if ours(h.Command, p.Agent) {
					return p.installed(text, h.Command, p.events(version))
				}
			}
		}
	}
	return false
}

// installed reports whether the text has exactly the hooks that Install adds. Keys count as the agent reads them: by
// their case, and once.
func (p *Place) installed(text []byte, command string, events []PlaceEvent) bool {
	root, err := parse(text)
	if err != nil {
		return false
	}
	if _, err := object(root); err != nil || root.Find("/hooks") == nil {
		return false
	}
	have, err := object(root.Find("/hooks"))
	if err != nil {
		return false
	}
	want := map[string]group{}
	for _, e := range events {
		want[e.Name] = e.group(command)
	}
	n := 0
	for _, event := range have.Members {
		groups, ok := event.Value.Value.(*hujson.Array)
		if !ok {
			continue
		}
		for i := range groups.Elements {
			if _, k := p.ourHandler(&groups.Elements[i], command); k < 0 {
				continue
			}
			if n++; !same(groups.Elements[i].Pack(), want[keyOf(event)]) {
				return false
			}
		}
	}
	return n == len(events)
}

// same reports whether a text is what a group is written as, but for its layout.
func same(text []byte, g group) bool {
	var a, b any
	written, err := json.Marshal(g)
	return err == nil && json.Unmarshal(written, &b) == nil && json.Unmarshal(text, &a) == nil && reflect.DeepEqual(a, b)
}

func (s style) addGroup(root *hujson.Value, event string, g group) error {
	top, err := object(root)
	if err != nil {
		return err
	}
	if root.Find("/hooks") == nil {
		s.addMember(top, 1, "hooks", &hujson.Object{})
	}
	events, err := object(root.Find("/hooks"))
	if err != nil {
		return fmt.Errorf("hooks: %w", err)
	}
	if root.Find("/hooks/"+event) == nil {
		s.addMember(events, 2, event, &hujson.Array{})
	}
	groups, ok := root.Find("/hooks/" + event).Value.(*hujson.Array)
	if !ok {
		return errForm
	}
	return s.addElement(groups, 3, g)
}

// madeByUs is how a file ends that Install has made: an empty line, by which Uninstall knows that the file can go.
const madeByUs = "\n\n"

// Uninstall gives the text without the hooks of Install, wherever they stand now: those of any program that is
// called sheetbend, and of program. What is empty without them goes too; if nothing is left of a file that Install
// made, the text comes back empty: the file can go.
func (p *Place) Uninstall(text []byte, program string) ([]byte, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return text, nil
	}
	root, err := parse(text)
	if err != nil {
		return nil, err
	}
	changed := false
	for {
		again, err := p.removeOne(root, Command(program, p.Agent))
		if err != nil {
			return nil, err
		}
		if !again {
			break
		}
		changed = true
	}
	if !changed {
		return text, nil
	}
	root.Standardize() // no comma behind what has become the last of its list
	if text = root.Pack(); string(text) == "{}"+madeByUs {
		return nil, nil
	}
	return text, nil
}

// removeOne takes one of our handlers out, with what would be empty without it; false if there is none.
func (p *Place) removeOne(root *hujson.Value, command string) (bool, error) {
	top, err := object(root)
	if err != nil {
		return false, err
	}
	hooks := root.Find("/hooks")
	if hooks == nil {
		return false, nil
	}
	events, err := object(hooks)
	if err != nil {
		return false, fmt.Errorf("hooks: %w", err)
	}
	for i, event := range events.Members {
		groups, ok := event.Value.Value.(*hujson.Array)
		if !ok {
			continue // not of the form that the agent documents: not ours
		}
		for j := range groups.Elements {
			handlers, k := p.ourHandler(&groups.Elements[j], command)
			switch {
			case k < 0:
				continue
			case len(handlers.Elements) > 1:
				handlers.Elements = slices.Delete(handlers.Elements, k, k+1)
			case len(groups.Elements) > 1:
				groups.Elements = slices.Delete(groups.Elements, j, j+1)
			case len(events.Members) > 1:
				events.Members = slices.Delete(events.Members, i, i+1)
			default:
				isHooks := func(m hujson.ObjectMember) bool { return keyOf(m) == "hooks" }
				top.Members = slices.DeleteFunc(top.Members, isHooks)
				if len(top.Members) == 0 {
					top.AfterExtra = nil
				}
			}
			return true, nil
		}
	}
	return false, nil
}

// ourHandler finds one of our handlers in a group: the list that it stands in, and where, or -1.
func (p *Place) ourHandler(g *hujson.Value, command string) (*hujson.Array, int) {
	if _, err := object(g); err != nil {
		return nil, -1
	}
	list := g.Find("/hooks")
	if list == nil {
		return nil, -1
	}
	handlers, ok := list.Value.(*hujson.Array)
	if !ok {
		return nil, -1
	}
	return handlers, slices.IndexFunc(handlers.Elements, func(v hujson.Value) bool {
		var h handler
		if json.Unmarshal(v.Pack(), &h) != nil {
			return false
		}
		// Earlier versions wrote what is behind exec.
		return h.Command == command || strings.HasSuffix(command, " exec "+h.Command) || ours(h.Command, p.Agent)
	})
}
