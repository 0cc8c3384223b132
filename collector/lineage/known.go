// SPDX-License-Identifier: Apache-2.0

package lineage

import (
	"bytes"
	"path"
	"slices"
	"strings"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/notable"
	"github.com/sheetbend/sheetbend/collector/paths"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// A wrapping is what a wrapper's program knows of the next.
type wrapping struct {
	agent   config.FileID // the program that started the outermost wrapper
	command string        // argv[0] of what it was told to run; "": it does not say
}

// knownAs says what a program is that does by its nature what would be notable of another. A name alone decides nothing:
// it is a file of the host's root or of the agent, or what a wrapper starts on its own account.
func (c *Tree) knownAs(x *ExecStart, before *Program, h *record.Header, r *record.Exec) string {
	i := x.Program
	ofRoot := r.ExeUID == 0 && !paths.Unproven(h.Flags) && h.Flags&record.ExecUnlinked == 0
	argv0, behind, _ := strings.Cut(x.Args, "\x00")
	switch k := x.Process.Call; {
	case ofRoot && lister(i.executable) && h.Flags&record.ExecEnvTruncated == 0 && !loads(r.Env):
		return notable.Lister
	case k == nil || before == nil || !slices.Contains(k.Agent.Wrappers().Programs, path.Base(argv0)):
		return ""
	case x.CallRoot && !k.Claimed() && (ofRoot || r.Inode != 0 && before.file == i.file):
		i.wraps.agent = before.file
	case before.Known == notable.Wrapper && before.Owner.Call == k &&
		(ofRoot || r.Inode != 0 && before.wraps.agent == i.file || before.wraps.command != "" && argv0 != before.wraps.command):
		i.wraps.agent = before.wraps.agent
	default:
		return ""
	}
	if _, command, says := strings.Cut("\x00"+behind, "\x00--\x00"); says {
		i.wraps.command, _, _ = strings.Cut(command, "\x00")
	}
	return notable.Wrapper
}

// lister says whether a path is that of a program that opens the environment of every process.
func lister(executable string) bool {
	switch executable {
	case "/usr/bin/ps", "/bin/ps", "/usr/bin/pgrep", "/bin/pgrep", "/usr/bin/top":
		return true
	}
	return false
}

// loads says whether an environment has the loader put other code into a program.
func loads(env []byte) bool {
	for variable := range bytes.SplitSeq(env, []byte{0}) {
		name, value, _ := bytes.Cut(variable, []byte{'='})
		if len(value) > 0 && slices.Contains(agents.LoaderVariables(), string(name)) {
			return true
		}
	}
	return false
}
