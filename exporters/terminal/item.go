// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/sheetbend/sheetbend/collector/span"
)

// class orders the rows below a process.
type class uint8

const (
	classLoss class = iota
	classEscape
	classOutside // reached into a process outside of the sandbox
	classAccess  // … into one within
	classNamespace
	classProgram // that was not started, or a process that was forked and ended badly; a limit that was hit
	classSocket
	classWrite
	classRefused
	classFailed    // for a reason that programs live with: EEXIST, EISDIR
	classSensitive // a successful read of the sensitive list
	classRead
	classMissing // a name that does not exist: programs try many
	classConnect
	classClose
)

// Verbs, weakest first: of several uses of one file the strongest is shown.
const (
	verbPath uint8 = iota
	verbRead
	verbWrite
	verbTruncate
	verbCreate
)

type itemKey struct {
	class   class
	folded  bool
	deleted bool
	pending bool // a connection without an outcome
	pid     int64
	action  string // what was done, where the class does not say it
	text    string // a path or peer as it came, or an escaped sentence
	from    string // of a renamed file: the path before; of a symbolic link its own, and text is where it leads
	detail  string // escaped: a mode, an owner, an attribute
	err     string
}

type item struct {
	itemKey
	verb       uint8
	sensitive  bool
	failed     bool
	count      int64
	start, end uint64

	shortest, longest uint64 // of the merged ones, ns
}

// items merges equal ones.
type items struct {
	list  []*item
	byKey map[itemKey]*item
}

func (l *items) add(it *item) {
	if l.byKey == nil {
		l.byKey = make(map[itemKey]*item)
	}
	l.byKey[it.itemKey] = it
	l.list = append(l.list, it)
}

// settle takes out what a notice has told of a connection whose span has come.
func (l *items) settle(it *item) {
	key := it.itemKey
	key.class, key.pending, key.err = classConnect, true, ""
	old := l.byKey[key]
	if old == nil {
		return
	}
	if old.count--; old.count == 0 {
		delete(l.byKey, key)
		l.list = slices.DeleteFunc(l.list, func(other *item) bool { return other == old })
	}
}

// merge counts another use of the same thing.
func (it *item) merge(more *item) {
	it.count += more.count
	it.verb = max(it.verb, more.verb)
	it.sensitive = it.sensitive || more.sensitive
	it.shortest, it.longest = min(it.shortest, more.shortest), max(it.longest, more.longest)
	it.start, it.end = min(it.start, more.start), max(it.end, more.end)
}

// isOfFork is true of what a forked child of n did that never called exec itself: it has a row of its own.
func (it *item) isOfFork(n *node) bool { return it.pid != 0 && n.pid != 0 && it.pid != n.pid }

// isNowhere is true of what shells do all the time and nobody wants to read of: throwing output away,
// and asking for a terminal that they do not have.
func (it *item) isNowhere() bool {
	return it.class == classWrite && it.text == "/dev/null" || it.class == classMissing && it.text == "/dev/tty"
}

// newItem reads a span that is a row below a process.
func newItem(s *span.Span, a span.Attrs) item {
	it := item{count: 1, start: s.Start, end: s.End, failed: s.Failed, sensitive: a.Is(span.KeySensitive)}
	if s.End > s.Start {
		it.shortest, it.longest = s.End-s.Start, s.End-s.Start
	}
	it.pid, _ = a.Int(span.KeyPID)
	it.err = short(a, span.KeyErrorType)
	if n, ok := a.Int(span.KeyCount); ok && n > 1 {
		it.count = n
	}
	switch s.Kind {
	case span.Loss:
		it.class, it.text, it.count = classLoss, lost(a), 1
	case span.Escape:
		it.class, it.text = classEscape, "ESCAPED from its cgroup"
		if to := a.Text(span.KeyCgroupTo); to != "" {
			it.text = "ESCAPED to " + Escape(clipPath(to))
		}
	case span.Socket:
		it.class, it.action, it.text = classSocket, "socket", socket(a)
	case span.Listen:
		it.class, it.action, it.text = classSocket, "listen", local(a)
	case span.Accept:
		it.class, it.action, it.text = classSocket, "accept", accepted(a)
	case span.Close:
		it.class, it.text = classClose, peer(a)+": "+traffic(a)
	case span.Namespace:
		it.class, it.action, it.text = classNamespace, short(a, span.KeyNamespaceOp), namespaces(a)
	case span.Access:
		it.class, it.action, it.text = classAccess, cmp.Or(accessVerbs[a.Text(span.KeyAccessOp)], "access"), reached(a)
		if a.Is(span.KeyAccessOutside) {
			it.class = classOutside
		}
	case span.ExecRefused:
		it.class, it.action, it.text = classProgram, "no exec", Escape(clipPath(a.Text(span.KeyRequestedExecutable)))
	case span.Exit: // of a worker
		it.class, it.action, it.text, it.err = classProgram, "worker", "("+strconv.FormatInt(it.pid, 10)+")", ending(a)
	case span.Limit:
		it.class, it.action, it.text = classProgram, "limit", short(a, span.KeyLimit)
	case span.Connect, span.ConnectStart:
		it.class, it.text = classConnect, peer(a)
		if span.Outcome(a.Text(span.KeyOutcome)) == span.Missing { // a service that is not installed, such as nscd
			it.class = classMissing
		}
		it.pending = s.Kind == span.ConnectStart || it.err == "" && a.Is(span.KeyPartial)
	case span.Lookup:
		it.class, it.action, it.text = classConnect, "lookup", lookedUp(a)
		it.pending = it.err == "" && a.Is(span.KeyPartial)
	case span.Change:
		it.change(a)
	case span.Open:
		it.file(a)
	default: // a kind without a case: TestEveryKindOfSpanHasALine fails
		it.class, it.action = classNamespace, s.Kind.String()
	}
	return it
}

// file reads a file.open span.
func (it *item) file(a span.Attrs) {
	it.text = clipPath(a.Text(span.KeyFilePath))
	it.folded = a.Is(span.KeyFolded)
	it.class, it.verb = classRead, verbRead
	if it.failedFile(a) {
		return
	}
	switch access := a.Text(span.KeyFileAccess); {
	case access == "write" || access == "read_write":
		it.class, it.verb = classWrite, verbWrite
	case access == "truncate":
		it.class, it.verb = classWrite, verbTruncate
	case access == "create":
		it.class, it.verb = classWrite, verbCreate
	case it.sensitive:
		it.class = classSensitive
	case access == "path_only":
		it.verb = verbPath
	}
}

// change reads a file.change span.
func (it *item) change(a span.Attrs) {
	operation := a.Text(span.KeyFileOperation)
	it.class, it.action = classWrite, cmp.Or(changeVerbs[operation], "changed")
	it.text, it.from = clipPath(a.Text(span.KeyFilePath)), clipPath(a.Text(span.KeyFileOldPath))
	it.folded = a.Is(span.KeyFolded)
	switch operation {
	case "symlink":
		if to := a.Text(span.KeyFileLinkTarget); to != "" {
			it.from, it.text = it.text, clipPath(to)
		}
	case "chmod":
		it.detail = short(a, span.KeyFileMode)
	case "chown":
		it.detail = short(a, span.KeyFileOwner) + ":" + short(a, span.KeyFileGroup)
	case "setxattr", "removexattr":
		it.detail = short(a, span.KeyFileAttribute)
	case "mount", "umount", "move_mount", "pivot_root", "chroot":
		it.class, it.text = classNamespace, place(a)
		return
	}
	if it.failedFile(a) {
		it.detail = strings.TrimSpace(short(a, span.KeyFileOperation) + " " + it.detail)
		return
	}
	it.deleted = operation == "unlink" || operation == "rmdir"
}

// failedFile sets the class of a span of a file that did not succeed, and tells whether it is one.
func (it *item) failedFile(a span.Attrs) bool {
	switch span.Outcome(a.Text(span.KeyOutcome)) {
	case span.Refused:
		it.class = classRefused
	case span.Missing:
		it.class = classMissing
	case span.Failed:
		it.class = classFailed
	default:
		return false
	}
	return true
}

// byClass is inOrder for rows below a process. Whatever is sensitive comes before the other files.
func byClass(a, b *item) int {
	return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(a.class, b.class), cmp.Compare(a.start, b.start),
		strings.Compare(a.action, b.action), strings.Compare(a.text, b.text), strings.Compare(a.err, b.err))
}

func (it *item) rank() int {
	switch {
	case it.class <= classEscape:
		return 0
	case it.sensitive && it.class != classConnect:
		return 1
	}
	return 2
}
