// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Rows of one kind below one process: beyond maxReads reads are shown by directory, the rest is
// only counted. Writes, refusals and whatever is sensitive are never folded or counted away.
const (
	maxReads    = 10
	maxMissing  = 4
	maxConnects = 100
	maxActs     = 100 // of sockets, namespaces, accesses: each
)

// limits bounds the rows of a class below one process, and says what those beyond it are called.
var limits = [...]struct {
	rows int64
	more string
}{
	classOutside:   {maxActs, "more accesses outside"},
	classAccess:    {maxActs, "more accesses"},
	classNamespace: {maxActs, "more namespaces"},
	classProgram:   {maxActs, "more programs and limits"},
	classSocket:    {maxActs, "more sockets"},
	classRead:      {maxReads, "more reads"},
	classMissing:   {maxMissing, "more names that do not exist"},
	classConnect:   {maxConnects, "more connections"},
	classClose:     {maxConnects, "more ends of connections"},
}

// items gives the rows below a process, by class, each class in the order of time.
func (d *drawing) items(n *node, noise int64) []row {
	var own, reads []*item
	for _, it := range n.items.list {
		switch {
		case n.forkOf == nil && it.isOfFork(n):
		case it.class == classRead:
			reads = append(reads, it)
		case d.folded && it.class == classMissing && !it.sensitive: // programs try many
		default:
			own = append(own, it)
		}
	}
	most := maxReads
	if d.folded {
		own, most = foldWrites(own), foldedReads
	}
	own = append(own, byDirectory(reads, most)...)
	slices.SortFunc(own, byClass)

	var rows []row
	var shown, hidden [len(limits)]int64
	counted := func(n int64, what string) {
		if n > 0 {
			rows = append(rows, row{head: fmt.Sprintf("+%d %s", n, what), headStyle: d.p.Dim})
		}
	}
	more := func(before class) { // those of the classes before that one that have no row
		for c := range before {
			counted(hidden[c], limits[c].more)
			hidden[c] = 0
		}
	}
	files := func() { // stands between the files and the connections
		more(classConnect)
		if len(own) > 0 && !d.folded { // without other rows the sum in the heading is enough
			counted(noise, "loader, library and locale "+Plural(noise, "read"))
		}
	}
	for _, it := range own {
		switch {
		case it.class >= classConnect && shown[classConnect] == 0 && shown[classClose] == 0:
			files()
		case it.class > classSocket:
			more(classSocket + 1)
		}
		if limit := limits[it.class].rows; limit > 0 && !it.sensitive && shown[it.class] >= limit {
			hidden[it.class] += it.count
			continue
		}
		if !it.sensitive || it.class >= classConnect {
			shown[it.class]++
		}
		rows = append(rows, d.item(n, it))
	}
	if shown[classConnect] == 0 && shown[classClose] == 0 {
		files()
	}
	more(classClose + 1)
	return rows
}

// byDirectory folds reads into their directories until at most limit are left, the deepest first. What stays
// alone in its directory stays as it is.
func byDirectory(reads []*item, limit int) []*item {
	type folded struct {
		dir string // what the item counts to so far: at first itself
		*item
	}
	all := make([]folded, len(reads))
	deepest := 0
	for i, it := range reads {
		all[i] = folded{strings.TrimSuffix(it.text, "/"), it}
		deepest = max(deepest, depth(all[i].dir))
	}
	for ; len(all) > limit && deepest > 1; deepest-- {
		at := make(map[string]int)
		kept := all[:0]
		for _, p := range all {
			if depth(p.dir) == deepest {
				p.dir = p.dir[:strings.LastIndexByte(p.dir, '/')]
			}
			i, found := at[p.dir]
			if !found {
				at[p.dir] = len(kept)
				kept = append(kept, p)
				continue
			}
			sum := *kept[i].item
			sum.text, sum.folded = p.dir+"/", true
			if sum.class == classRead {
				sum.verb = verbRead
			}
			sum.count += p.count
			sum.start = min(sum.start, p.start)
			kept[i].item = &sum
		}
		all = kept
	}
	left := make([]*item, len(all))
	for i, p := range all {
		left[i] = p.item
	}
	return left
}

// depth counts the components of a path.
func depth(file string) int { return strings.Count(file, "/") }

func (d *drawing) item(n *node, it *item) row {
	verb, text := describe(it, n.cwd)
	r := row{
		head: Pad(verb, verbCells), headStyle: d.p.Dim, text: text, front: it.class < classConnect, outcome: it.err,
	}
	switch {
	case it.folded && (it.class == classWrite || it.class == classFailed):
		r.tail = " (" + strconv.FormatInt(it.count, 10) + ")"
	case it.folded:
		r.tail = " (" + Count(it.count, "read") + ")"
	case it.count > 1:
		r.tail = " ×" + strconv.FormatInt(it.count, 10)
	}
	switch it.class {
	case classLoss, classEscape:
		r.head, r.text, r.front = Escape(it.text), "", false
		r.headStyle = d.p.Alarm
	case classOutside:
		r.headStyle, r.textStyle, r.outcomeStyle, r.front = d.p.Alarm, d.p.Alarm, d.p.Red, false
	case classAccess, classNamespace, classProgram, classSocket:
		r.headStyle, r.outcomeStyle, r.front = d.p.Yellow, d.p.Yellow, false
		if it.failed {
			r.outcomeStyle = d.p.Red
		}
	case classWrite:
		r.headStyle = d.p.Green
	case classRefused:
		r.headStyle, r.outcomeStyle = d.p.Red, d.p.Red
	case classSensitive:
		r.headStyle, r.textStyle = d.p.Yellow, d.p.Yellow
	case classRead, classMissing:
		r.textStyle, r.outcomeStyle = d.p.Dim, d.p.Dim
	case classConnect, classClose:
		r.headStyle = d.p.Cyan
		r.outcomeStyle = d.p.Red
		var between string
		r.duration, between, r.outcome = latency(it)
		r.tail += between
		if !it.failed {
			r.outcomeStyle = d.p.Yellow
		}
	}
	if it.sensitive && it.class != classSensitive {
		r.tail += " [sensitive]"
	}
	return r
}

// latency is the duration and the outcome of a connection, and where several are one row, the shortest and the longest.
// A point in time has none.
func latency(it *item) (took, between, outcome string) {
	switch {
	case it.pending:
		return "", "", "no answer"
	case it.longest <= 1000:
	case it.count == 1:
		took = Duration(it.longest)
	case Duration(it.shortest) == Duration(it.longest):
		between = " (" + Duration(it.longest) + ")"
	default:
		between = " (" + Duration(it.shortest) + "–" + Duration(it.longest) + ")"
	}
	return took, between, it.err
}

// verbs of the classes whose rows name a file or a peer.
var verbs = [...]string{
	classRefused: "refused", classFailed: "failed", classSensitive: "read", classMissing: "missing", classRead: "read",
	classConnect: "connect", classClose: "close",
}

// describe is what happened, as a verb and its object.
func describe(it *item, cwd string) (verb, object string) {
	object = Escape(Relative(cwd, it.text))
	if it.from != "" {
		object = Escape(Relative(cwd, it.from)) + " -> " + object
	}
	if it.detail != "" {
		object = it.detail + " " + object
	}
	switch it.class {
	case classOutside, classAccess, classNamespace, classProgram, classSocket:
		return it.action, it.text
	case classConnect:
		if it.action != "" {
			return it.action, it.text
		}
	case classWrite:
		if it.action != "" {
			return it.action, object
		}
		return [...]string{verbWrite: "write", verbTruncate: "truncate", verbCreate: "create"}[it.verb], object
	case classSensitive:
		object += " [sensitive]"
	case classRead:
		if it.verb == verbPath {
			return "path", object
		}
	}
	return verbs[it.class], object
}
