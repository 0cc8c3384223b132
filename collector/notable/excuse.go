// SPDX-License-Identifier: Apache-2.0

package notable

import (
	"path"
	"strconv"
	"strings"

	"github.com/sheetbend/sheetbend/collector/span"
)

// What a program is known to be, by its file and by who started it (sheetbend.process.known).
const (
	Wrapper = "wrapper" // its agent has put it around a command: it makes namespaces and mounts
	Lister  = "lister"  // ps and its like: it opens the environments of all processes
)

// sandboxing says whether the program is one that its agent has put around a command. Whoever has reached into it decides
// what it does.
func (t teller) sandboxing() bool { return t.Text(span.KeyKnown) == Wrapper && !t.has(tainted) }

// touchesNone says whether what was done at a sensitive path touches no secret.
func (t teller) touchesNone() bool {
	known := t.Text(span.KeyKnown)
	if t.has(tainted) {
		known = ""
	}
	return TouchesNone(known, t.Text(span.KeyFileAccess), t.Text(span.KeyFileOperation), t.Text(span.KeyFilePath))
}

// TouchesNone says whether what was done at a sensitive path touches no secret: the path alone was opened, an empty
// directory was made or removed, as Codex does where it mounts; a wrapper made a file to mount on, below the root that it
// makes; or ps looked for the environment of a process. known is what the program is known to be.
func TouchesNone(known, access, operation, name string) bool {
	switch {
	case access == "path_only", operation == "mkdir", operation == "rmdir":
		return true
	case known == Wrapper:
		return access == "create" && BelowNewRoot(name)
	case known == Lister:
		return access == "read" && path.Base(name) == "environ" && strings.HasPrefix(name, "/proc/")
	}
	return false
}

// BelowNewRoot says whether a path is below the root that bubblewrap makes, or that which it leaves, as seen while it does.
func BelowNewRoot[T string | []byte](name T) bool {
	const newRoot, oldRoot = "/newroot/", "/oldroot/"
	return len(name) > len(newRoot) && (string(name[:len(newRoot)]) == newRoot || string(name[:len(oldRoot)]) == oldRoot)
}

// ownCredentials says whether this is what the agent logs in with, outside of its calls: it is read all the time.
func (t teller) ownCredentials() bool {
	own := map[string]string{
		"codex": "/.codex/auth.json", "claude-code": "/.claude/.credentials.json",
	}[t.Text(span.KeyAgentName)]
	return own != "" && t.Text(span.KeyAttribution) == "session" && strings.HasSuffix(t.Text(span.KeyFilePath), own)
}

// mounted says what the operations do that change what a path means.
var mounted = map[string]string{
	"mount": "mounted at", "umount": "unmounted", "move_mount": "moved a mount to", "pivot_root": "changed the root to",
	"chroot": "changed its root to",
}

// setsID says whether a mode has set-user-id or set-group-id.
func (t teller) setsID() bool {
	mode, err := strconv.ParseUint(t.Text(span.KeyFileMode), 8, 16)
	return err == nil && mode&0o6000 != 0
}
