// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"path"
	"strings"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/config"
)

// maxWorkspace bounds a workspace as it is told, in bytes.
const maxWorkspace = 512

// A workspace is where an agent, or a sandbox without one, was started to work: the working directory of its first
// program.
type workspace struct {
	path string // "": not known
	wide bool   // it holds more than work: it is the root or somebody's home
}

func workspaceAt(dir string) workspace {
	if !path.IsAbs(dir) {
		return workspace{}
	}
	w := workspace{path: path.Clean(dir)}
	w.wide = w.path == "/" || w.path == homeOf(w.path+"/")
	return w
}

// homeOf gives the home directory that a path is below, by where homes usually are; "": none.
func homeOf(name string) string {
	if strings.HasPrefix(name, "/root/") {
		return "/root"
	}
	const homes = "/home/"
	if !strings.HasPrefix(name, homes) {
		return ""
	}
	user, _, below := strings.Cut(name[len(homes):], "/")
	if user == "" || !below {
		return ""
	}
	return name[:len(homes)+len(user)]
}

// outsideOf knows what is outside of no workspace, and what is in none.
type outsideOf struct{ ignore, never config.Patterns }

// newOutside compiles the patterns of a configuration, which is valid.
func newOutside(c *config.Config) (o outsideOf) {
	o.ignore, _ = config.CompilePatterns(c.WorkspaceIgnore)
	o.never, _ = config.CompilePatterns(c.WorkspaceNever)
	return o
}

// isOutside says whether a file lies outside of the workspace of whom that changes it. Where that is not known, or the
// whole path is not, nothing does.
func (c *Spans) isOutside(sb *attribution.Sandbox, w attribution.Owner, name string) bool {
	var at workspace
	if w.Agent == nil || w.Agent.First.Tgid == 0 { // nobody's, or of who marks calls for nobody's processes
		at = c.toldOf(sb).workspace
	} else if s := storyOf(w); s != nil {
		at = s.workspace
	}
	if at.path == "" || !path.IsAbs(name) || !lasts(name) {
		return false
	}
	if below := at.path == "/" || strings.HasPrefix(name, at.path) && (len(name) == len(at.path) || name[len(at.path)] == '/'); below && !at.wide {
		return false
	} else if below {
		c.text = append(c.text[:0], name...)
		if !c.outside.never.Match(c.text) {
			return false
		}
	}
	c.text = append(c.text[:0], name...)
	return !c.outside.ignore.Match(c.text) && (w.Agent == nil || !w.Agent.Keeps(name))
}
