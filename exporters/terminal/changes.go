// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sheetbend/sheetbend/collector/span"
)

// Bounds of what is kept and shown of the changes in the end.
const (
	maxChanged     = 64 // spans that tell of them, of a sandbox
	maxChangeLines = 10 // for each of them
	maxNamesInLine = 4
)

// effects are the classes of changes, as they are shown.
var effects = []struct{ verb, count, names string }{
	{"created", span.KeyFilesCreated, span.KeyFilesCreatedNames},
	{"modified", span.KeyFilesModified, span.KeyFilesModifiedNames},
	{"written?", span.KeyFilesOpened, span.KeyFilesOpenedNames},
	{"replaced", span.KeyFilesReplaced, span.KeyFilesReplacedNames},
	{"deleted", span.KeyFilesDeleted, span.KeyFilesDeletedNames},
	{"renamed", span.KeyFilesRenamed, span.KeyFilesRenamedNames},
	{"linked", span.KeyFilesLinked, span.KeyFilesLinkedNames},
	{"mode of", span.KeyFilesMode, span.KeyFilesModeNames},
	{"owner of", span.KeyFilesOwner, span.KeyFilesOwnerNames},
	{"touched", span.KeyFilesAttributes, span.KeyFilesAttributesNames},
	{"not sure", span.KeyFilesUnsure, ""},
	{"not named", span.KeyFilesMore, ""},
}

// keepChanges keeps what a span says of changes in the end. A call's and a nested agent's are its agent's, too.
func (t *Tree) keepChanges(s *span.Span, a span.Attrs) {
	sandbox := a.Text(span.KeySandboxID)
	list := t.changed[sandbox]
	if s.Kind == span.SessionCall || a.Text(span.KeyParentSession) != "" || len(list) >= maxChanged || len(t.changed) >= t.o.MaxRows {
		return
	}
	var kept span.Attrs
	for _, x := range a {
		if strings.HasPrefix(x.Key, "sheetbend.files.") {
			x.List = slices.Clone(x.List)
			kept = append(kept, x)
		}
	}
	if len(kept) > 0 {
		t.changed[sandbox] = append(list, kept)
	}
}

// An Effect is a class of what was changed in the end, for people.
type Effect struct {
	Verb  string   // created, deleted, …
	Count int64    // of names
	Names []string // the first ones, safe to print
}

// OneDirectory says whether one directory stands for all of the names.
func (e Effect) OneDirectory() bool {
	return e.Count > 1 && len(e.Names) == 1 && strings.HasSuffix(e.Names[0], "/")
}

// Effects are those that a span tells of, each with its first names, as name writes a path so that it is safe to print.
func Effects(a span.Attrs, name func(string) string, most int) (told []Effect) {
	for _, e := range effects {
		n, ok := a.Int(e.count)
		if !ok {
			continue
		}
		names := slices.Clone(a.List(e.names))
		from := a.List(span.KeyFilesRenamedFrom)
		names = names[:min(len(names), most)]
		for i := range names {
			names[i] = name(names[i])
			if e.count == span.KeyFilesRenamed && i < len(from) {
				names[i] = name(from[i]) + " -> " + names[i]
			}
		}
		told = append(told, Effect{e.verb, n, names})
	}
	return told
}

// changes are the lines of one span, seen from a directory.
func changes(a span.Attrs, directory string) (lines []string) {
	for _, e := range Effects(a, func(s string) string { return Escape(Relative(directory, clipPath(s))) }, maxNamesInLine) {
		text := strings.Join(e.Names, ", ")
		switch {
		case len(e.Names) == 0:
			text = fmt.Sprint(e.Count)
		case e.OneDirectory():
			text += fmt.Sprintf(" (%d names)", e.Count)
		case e.Count > int64(len(e.Names)):
			text += fmt.Sprintf(" … (%d names)", e.Count)
		}
		lines = append(lines, Pad(e.Verb, verbCells)+" "+text)
	}
	return lines
}

// changed prints what was changed in the end, seen from the directory of the first program.
func (d *drawing) changed(se *session, list []span.Attrs) {
	directory := ""
	for _, n := range se.order {
		if directory == "" {
			directory = n.cwd
		}
	}
	for _, a := range list {
		lines := changes(a, directory)
		if len(lines) == 0 {
			continue
		}
		d.print("")
		for i, line := range lines {
			if i == maxChangeLines {
				d.print(d.p.Dim(fmt.Sprintf("… and %d more", len(lines)-i)))
				break
			}
			d.print(d.fit(line))
		}
	}
}
