// SPDX-License-Identifier: Apache-2.0

package mask

import (
	"path"
	"strings"
)

// command follows the words of one command, be they arguments or parts of a script.
type command struct {
	program
	said // what echo and the like print, for whom it is piped to

	args  []string // where the words are arguments, and which this is
	at    int
	inner bool // they are a script's, within an argument, and where it ends
	end   int
	sure  bool // it is a command, and does not only look so
	reads bool // standard input is a secret
}

// program is what the words of a command said up to here.
type program struct {
	name  string // its base name; "" before it is known
	tool  *tool  // nil: nothing is known of it
	echo  bool   // it prints its arguments
	next  kind   // what the word before announced
	loose bool   // the word before is an option of which nothing is known
	means meaning
	place int  // of arguments that are no options
	named bool // the word before is a secret's name: config set x.token VALUE
	weak  bool // the value after the name is one only if it looks like a secret
	skip  int  // of words between the name and the value
	seen  bool // there was such a name
	about topic
	user  int8 // whether there is an option with a user: 0 unknown, 1 yes, -1 no
	over  bool // there are no more options: --
	key   bool // the word before is --key
}

func (c *command) is(t topic) bool { return c.about&t > 0 }

// run begins a command with its program.
func (c *command) run(m *masker, w string) {
	name := strings.TrimPrefix(strings.TrimSuffix(path.Base(w), ".exe"), "-")
	c.program = program{name: name, tool: tools().named(name), echo: echoes[name]}
	c.enter(m, c.tool)
}

// enter is for a tool or a sub-command that may read a secret.
func (c *command) enter(m *masker, t *tool) {
	c.tool = t
	if t.is(reads) {
		c.readsInput(m)
	}
}

// word takes the word from begin to end, hides what is secret in it and says what else it may be.
func (c *command) word(m *masker, begin, end int) use {
	w := m.s[begin:end]
	if c.name == "" {
		if w != "" && (!c.inner || !isAssignment(w)) {
			c.run(m, w)
		}
		return anything
	}
	next := c.next
	c.next = ""
	switch {
	case next != "" && (!looksLikeOption(w) || next == "people" ||
		next == "secret" && strings.HasPrefix(w, "--") && random(w)):
		return c.value(m, next, begin, end)
	case len(w) > 1 && (w[0] == '-' || w[0] == '/' && c.tool != nil && c.tool.slash) && !c.over:
		return c.option(m, begin, end)
	}
	return c.argument(m, begin, end)
}

// isAssignment is true of name=value.
func isAssignment(w string) bool {
	n := span(w, 0, wordByte)
	return n > 0 && n < len(w) && w[n] == '='
}

// looksLikeOption is true of -x and --long, not of - and of -1.
func looksLikeOption(w string) bool {
	return len(w) > 1 && w[0] == '-' && (letter(w[1]) || w[1] == '-')
}

// option takes a word that begins with a dash.
func (c *command) option(m *masker, begin, end int) use {
	w := m.s[begin:end]
	if w == "--" {
		c.over = !c.tool.is(wraps | wrapsAny)
		return consumed
	}
	sep := "="
	if w[0] == '/' {
		sep = ":"
	}
	name, v, valued := strings.Cut(w, sep)
	c.named = false
	k := c.tool.option(name)
	c.means = aSecret
	if k == "" && c.tool != nil && len(w) > 2 && w[0] == '-' && w[1] != '-' {
		n, k := c.short(w)
		switch {
		case k == "":
		case k == "shift", k == "input", k == "flag":
			return c.value(m, k, end, end)
		case n == len(w):
			c.next = k
			return consumed
		case k == "pairs":
			return anything
		default:
			if w[n] == '=' && k != "joined" && k != "secret" {
				n++
			}
			return c.value(m, k, begin+n, end)
		}
	}
	if k == "" {
		k, c.means = c.generic(name, !valued)
	}
	switch {
	case k == "":
		c.loose = !valued
		return anything
	case k == "flag", k == "input", k == "shift":
		return c.value(m, k, begin, end)
	case valued && (k == "named" || k == "joined"):
		return anything // text looks at names
	case valued:
		return c.value(m, k, end-len(v), end)
	case k != "joined":
		c.next = k
	case len(name) > 2:
		c.next = "likely" // mysql --password x means the database x, and is not always meant so
	}
	return consumed
}

// short gives the option that takes what follows it in a word of short options, -sSuX, and where that begins.
func (c *command) short(w string) (int, kind) {
	t := c.tool
	if t.is(words) { // -hp, -p of 7z and rar
		for n := min(len(w)-1, longestName); n > 1; n-- {
			if t.joins(w[:n]) {
				return n, "joined"
			}
		}
		return 0, ""
	}
	for n := 1; n < len(w); n++ {
		switch k := t.option(string([]byte{'-', w[n]})); {
		case k == "flag":
		case k == "joined" && n+1 == len(w):
			return 0, ""
		case k == "joined" && w[n:] == "port": // mysqldump -port
			return 0, "flag"
		case k != "" || !has(t.flags, w[n]):
			return n + 1, k
		}
	}
	return 0, ""
}

// generic says what an option announces that the table does not have for the tool. alone: it has no value in its word.
func (c *command) generic(name string, alone bool) (kind, meaning) {
	k := tools().option(name)
	switch {
	case k == "":
	case k == "guess" && c.tool.is(looks):
		return "", ordinary
	case k == "user" && c.tool.is(looks):
		return "plain", ordinary
	case k == "valueof" && !c.is(secrets), k == "likely" && c.tool != nil && !c.is(logins),
		k == "input" && name == "--stdin" && !c.is(secrets|logins) && !c.seen && !strings.HasSuffix(c.name, "keystore"):
	case k == "valueof":
		return "secret", ordinary
	case k == "named":
		return k, aPassword
	default:
		c.key = name == "--key"
		return k, ordinary
	}
	if len(name) < 3 || len(name) < 4 && name[1] != '-' {
		return "", ordinary
	}
	switch means := meaningOf(name); {
	case means == ordinary:
		return "", ordinary
	case alone && asks(name):
		return "flag", ordinary
	case name[1] == '-' || means >= aSecret || means == anAuth:
		return "named", means
	}
	return "", ordinary
}

// argument takes a word that is no option.
func (c *command) argument(m *masker, begin, end int) use {
	w := m.s[begin:end]
	value, loose := c.named, c.loose
	c.named, c.loose = false, false
	switch {
	case strings.HasPrefix(w, "<<<"):
		if c.reads && w != "<<<" {
			c.hideSaid(m, begin+3, end)
		} else if c.reads {
			c.next = "secret"
		}
		return anything
	case c.inner && c.reads && strings.HasPrefix(w, "<<"):
		c.document(m, begin, end)
		return consumed
	case c.echo:
		if c.inner && w != "" {
			c.says(m, begin, end)
		}
		return forPeople
	case c.skip > 0:
		c.skip--
		c.named = value
		c.place++
		return anything
	case value && c.isValue(m, w, end):
		from, to := c.means.secretIn(w, false)
		if from < to && (c.is(sets) || c.means != aSecret || digits(w) > 0 || len(w) > 5) {
			m.hide(begin+from, begin+to)
			c.place++
			return consumed
		}
	}
	if c.tool != nil {
		if use, known := c.toolArgument(m, begin, end); known {
			return use
		}
	}
	switch {
	case strings.HasSuffix(c.name, ".py") && strings.IndexByte(w, ':') > 0 && !strings.Contains(w, "://") &&
		(has(w, '@') || w[0] != '/' && has(w, '/')) && !pathLike(w):
		return c.value(m, "target", begin, end)
	case c.is(secrets) && c.is(sets) && c.tool == nil && isAssignment(w):
		return c.value(m, "assign", begin, end)
	case !loose && (c.is(logins) && (random(w) || passwordish(w)) || c.is(accounts) && (passwordish(w) || leet(w))) &&
		!pathLike(w) && !none(w) && !strings.ContainsAny(w, "@="):
		m.hide(begin, end)
		return consumed
	}
	c.about |= topics[w]
	c.nextIsNamed(w)
	return anything
}

// isValue says whether the word w, which ends at end, may be the value of the name before it.
func (c *command) isValue(m *masker, w string, end int) bool {
	switch {
	case w == "", w[0] == '<', w[0] == '>', has(w, '='), constant(w), verbs[strings.ToLower(w)]:
		return false
	case c.inner && (expression(strings.TrimRight(w, ",;)")) || end < c.end && m.s[end] == '('):
		return false
	}
	return !c.weak || passwordish(strings.TrimSuffix(w, "/")) || random(w)
}

// toolArgument takes an argument of a tool of the table, if it knows that.
func (c *command) toolArgument(m *masker, begin, end int) (use, bool) {
	w := m.s[begin:end]
	t := c.tool
	if t.is(wraps|wrapsAny) && !isAssignment(w) && !has(w, ' ') {
		if base := path.Base(w); t.is(wrapsAny) || base != c.name && tools().subs[base] != nil {
			c.run(m, w)
			return anything, true
		}
	}
	if sub := t.subs[w]; sub != nil {
		c.place = 0
		c.enter(m, sub)
		c.about |= topics[w]
		return anything, true
	}
	if k := t.option(w); k != "" {
		c.next = k
		return anything, true
	}
	k := t.every
	if c.place < len(t.args) && t.args[c.place] != "" {
		k = t.args[c.place]
	}
	c.place++
	if k == "" {
		return anything, t.is(looks)
	}
	if k == "named" {
		c.means = aSecret
	}
	use := c.value(m, k, begin, end)
	c.about |= topics[w]
	if k == "pairs" {
		c.nextIsNamed(w)
	}
	return use, true
}

// nextIsNamed looks whether the word is a secret's name, the value of which the next word may be.
func (c *command) nextIsNamed(w string) {
	if c.inner {
		w = w[strings.LastIndexByte(w, '/')+1:] // s/x/requirepass y/
	}
	means := meaningOf(w)
	switch {
	case strings.HasPrefix(w, "http-basic."):
		c.named, c.means, c.skip, c.weak = true, aPassword, 1, false
		return
	case means == ordinary, means == anAuth && !c.is(sets), len(w) > longestName, w[0] == '.', !only(w, nameBytes+":/"),
		has(w, '/') && !strings.HasPrefix(w, "//"), pathLike(w),
		strings.Count(w, ":") > 1 && !c.is(sets): // session:1:token
		return
	}
	c.weak = asks(w) || means == aCookie || weakNames[w] || c.is(quiet) && !c.is(sets) ||
		c.inner && (!c.sure || c.tool == nil)
	if c.is(sets) || strings.ContainsAny(w, "-_.:") || announcing[strings.ToLower(w)] {
		c.named, c.means, c.seen = true, means, true
	}
}
