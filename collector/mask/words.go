// SPDX-License-Identifier: Apache-2.0

package mask

import (
	_ "embed"
	"fmt"
	"iter"
	"slices"
	"strings"
)

//go:embed words.txt
var wordTable string

// lists of words.txt, by their names.
var lists = func() map[string][]string {
	lists := map[string][]string{}
	for fields := range rows(wordTable) {
		lists[fields[0]] = append(lists[fields[0]], fields[1:]...)
	}
	return lists
}()

// Lists of words.txt.
var (
	redacted, references, methods, notPasswords = set("redacted"), set("reference"), set("method"), set("notPassword")
	public, groups, users, schemes              = set("public"), set("group"), set("user"), set("scheme")
	objects, extensions, labels, segments       = set("object"), set("extension"), set("label"), set("segment")
	asking, announcing, weakNames, verbs        = set("asking"), set("announcing"), set("weak"), set("verb")
	echoes, kinds                               = set("echo"), set("kind")
)

var codeVerbs, passwordlike = lists["code"], lists["passwordlike"]

// hooks are hosts and a segment of paths, calls functions and the number of an argument.
var hooks, calls = pairsOf("hook", "/"), pairsOf("call", "=")

// topic is what a command is about, by a word of it.
type topic uint8

const (
	sets     topic = 1 << iota // something is set
	secrets                    // it is a secret
	accounts                   // it is about users
	quiet                      // nothing is set
	logins                     // it logs in
)

var topics = func() map[string]topic {
	topics := map[string]topic{}
	for n, list := range []string{"sets", "secrets", "accounts", "quiet", "logins"} {
		for w := range set(list) {
			topics[w] |= 1 << n
		}
	}
	return topics
}()

// rows gives the fields of each line of a table but for comments.
func rows(table string) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		for line := range strings.Lines(table) {
			if f := strings.Fields(line); len(f) > 0 && f[0] != "#" && !yield(f) {
				return
			}
		}
	}
}

func set(list string) map[string]bool {
	words := lists[list]
	if words == nil {
		panic(fmt.Sprintf("words.txt: no list %q", list))
	}
	set := map[string]bool{}
	for _, w := range words {
		set[w] = true
	}
	return set
}

// pairsOf gives the words of a list cut in two.
func pairsOf(list, sep string) (pairs [][2]string) {
	for _, w := range lists[list] {
		a, b, _ := strings.Cut(w, sep)
		pairs = append(pairs, [2]string{a, b})
	}
	return pairs
}

// index gives which of the words w is.
func index(words []string, w string) int {
	n := slices.Index(words, w)
	if n < 0 {
		panic(fmt.Sprintf("no %q in %q", w, words))
	}
	return n
}
