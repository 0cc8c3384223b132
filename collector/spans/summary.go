// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sheetbend/sheetbend/collector/effect"
	"github.com/sheetbend/sheetbend/collector/span"
)

// Bounds of a summary, in bytes: of all, and of its parts. So no part takes the room of another one.
const (
	maxSummary    = 300
	maxNetPart    = 80
	maxHostPart   = 64
	maxSecretPart = 48
	maxLeftPart   = 40
)

// A tail is what a summary tells besides the account.
type tail struct {
	calls, failed, denied int64
	left                  int64 // processes
	programs, listens     []string
	oom                   bool
}

// summaryOf says what was done in one sentence for people; paths are shown from the workspace, if that is known.
func summaryOf(a *account, sum *changes, workspace string, t tail) string {
	var parts []string
	add := func(most int, text string) {
		if text != "" {
			parts = append(parts, clip(printable(text), most))
		}
	}
	if t.calls > 0 {
		text := counted(t.calls, "call")
		if t.failed > 0 || t.denied > 0 {
			text += " (" + joined(", ", some(t.failed, "failed"), some(t.denied, "denied")) + ")"
		}
		parts = append(parts, text)
	}
	if a.programs > 0 {
		text := counted(a.programs, "program")
		if a.failed > 0 {
			text += " (" + some(a.failed, "failed") + ")"
		}
		parts = append(parts, text)
	}
	add(maxLeftPart, some(a.lost, "records lost")) // before what may be long: it is not cut off
	add(maxNetPart, sum.text(workspace))
	add(maxHostPart, a.hostsText())
	if len(a.secretNames) > 0 {
		add(maxSecretPart, a.secretVerb+" secret "+shown(a.secretNames[0], "", maxSecretPart-24)+more(len(a.secretNames)-1))
	}
	if len(a.outsideNames) > 0 {
		add(maxSecretPart, "outside: "+shown(a.outsideNames[0], "", maxSecretPart-16)+more(len(a.outsideNames)-1))
	}
	add(maxSecretPart, a.notes.besides())
	add(maxLeftPart, some(a.refused, "refused"))
	if t.oom {
		parts = append(parts, "killed for memory")
	}
	if t.left > 0 {
		text := "left running: " + strings.Join(t.programs, ", ")
		if len(t.programs) == 0 {
			text = some(t.left, "left running")
		}
		if len(t.listens) > 0 {
			text += " at " + t.listens[0]
		}
		add(maxLeftPart, text)
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return clip(strings.Join(parts, " · "), maxSummary)
}

// clip cuts a text to so many bytes, the ellipsis included.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return span.Clip(s, n-len("…"))
}

var classVerbs = [effect.Classes]string{
	effect.Created: "created", effect.Modified: "modified", effect.OpenedForWriting: "opened for writing",
	effect.Replaced: "replaced", effect.Deleted: "deleted", effect.Renamed: "renamed", effect.Linked: "linked",
	effect.Mode: "mode set", effect.Owner: "owner set", effect.Attributes: "attributes set",
}

// text tells the numbers of a net effect: "790 created in node_modules/, 1 modified".
func (s *changes) text(workspace string) string {
	var parts []string
	taken := 0
	for class, verb := range classVerbs {
		if n := s.counts[class]; n > 0 && verb != "" {
			text := strconv.Itoa(n) + " " + verb
			if place := placeOf(n, s.names[class], workspace); taken+len(text)+len(place) <= maxNetPart-len(", ") {
				text += place
			}
			parts, taken = append(parts, text), taken+len(text)+len(", ")
		}
	}
	return strings.Join(parts, ", ")
}

// placeOf says where what is counted lies: the one file, or a directory that is around all of it.
func placeOf(count int, names []string, workspace string) string {
	switch {
	case len(names) == 0:
		return ""
	case len(names) == 1 && count == 1:
		return ": " + shown(names[0], workspace, 40)
	}
	dir := names[0]
	for _, name := range names {
		for !strings.HasPrefix(name, dir) {
			dir = dir[:strings.LastIndexByte(strings.TrimSuffix(dir, "/"), '/')+1]
		}
	}
	if dir = dir[:strings.LastIndexByte(dir, '/')+1]; len(dir) <= len("/") || strings.TrimSuffix(dir, "/") == workspace {
		return ""
	}
	return " in " + shown(dir, workspace, 40)
}

// shown is a path as people read it: from the workspace or the home directory, and its end where it is long.
func shown(name, workspace string, most int) string {
	if rest, below := strings.CutPrefix(name, strings.TrimSuffix(workspace, "/")+"/"); below && workspace != "" && rest != "" {
		name = rest
	} else if home := homeOf(name); home != "" {
		name = "~" + name[len(home):]
	}
	if len(name) <= most {
		return name
	}
	cut := name[len(name)-most+len("…"):]
	for len(cut) > 0 && !utf8.RuneStart(cut[0]) {
		cut = cut[1:]
	}
	if path.Base(cut) != "" && strings.Contains(strings.TrimSuffix(cut, "/"), "/") {
		cut = cut[strings.IndexByte(cut, '/'):]
	}
	return "…" + cut
}

// hostsText tells the destinations, name servers last, and the bytes.
func (a *account) hostsText() string {
	var names, servers []string
	for _, h := range a.hostNames {
		if strings.HasSuffix(h.name, ":53") {
			servers = append(servers, h.name)
		} else {
			names = append(names, h.name)
		}
	}
	names = append(names, servers...)
	if len(names) == 0 && a.sent+a.received == 0 {
		return ""
	}
	text := "→"
	if len(names) > 0 {
		text += " " + clip(names[0], 36) + more(len(a.hosts)-1)
	}
	if bytes := joined(", ", bytesText(a.received, "in"), bytesText(a.sent, "out")); bytes != "" {
		text += " (" + bytes + ")"
	}
	return text
}

// bytesText is a number of bytes with a word, "" of none.
func bytesText(n int64, word string) string {
	switch {
	case n <= 0:
		return ""
	case n < 1000:
		return fmt.Sprintf("%d B %s", n, word)
	case n < 999_500:
		return fmt.Sprintf("%.3g kB %s", float64(n)/1e3, word)
	case n < 999_500_000:
		return fmt.Sprintf("%.3g MB %s", float64(n)/1e6, word)
	}
	return fmt.Sprintf("%.4g GB %s", float64(n)/1e9, word)
}

func counted(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.FormatInt(n, 10) + " " + what + "s"
}

func some(n int64, what string) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10) + " " + what
}

func more(n int) string {
	if n <= 0 {
		return ""
	}
	return " +" + strconv.Itoa(n)
}

func joined(by string, parts ...string) string {
	var list []string
	for _, p := range parts {
		if p != "" {
			list = append(list, p)
		}
	}
	return strings.Join(list, by)
}

// printable shows what cannot be seen as U+FFFD.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}
