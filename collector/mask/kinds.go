// SPDX-License-Identifier: Apache-2.0

package mask

import (
	"path"
	"slices"
	"strings"
)

// kind says what a value is, by its word in tools.txt; "" if nothing is known of it.
type kind string

// use is what is to be done with a word besides what word did.
type use uint8

const (
	anything    use = iota
	consumed        // nothing
	forPeople       // it is a text
	code            // it is a program, but not of a shell
	shellScript     // it is a shell's
)

var uses = map[kind]use{"flag": consumed, "people": forPeople, "code": code, "script": shellScript, "pairs": anything,
	"header": anything}

// value takes the value of an option, or an argument of a known kind.
func (c *command) value(m *masker, k kind, from, to int) use {
	from, to = unquoted(m.s, from, to)
	v := m.s[from:to]
	if use, ok := uses[k]; ok {
		return use
	}
	switch k {
	case "input":
		c.readsInput(m)
		return consumed
	case "shift":
		c.place++
		return consumed
	case "then":
		if v != "anonymous" && (v == "" || v[0] != '+') {
			c.next = "secret"
		}
		return consumed
	case "plain":
		if m.words || strings.Contains(v, "://") || strings.IndexByte(v, '@') > 0 {
			return anything
		}
		return consumed
	case "valueof":
		if k = "secret"; !c.is(secrets) {
			return anything
		}
	case "two":
		if v == "" || v[0] == '-' {
			return anything
		}
		c.next = "secret"
	case "cookie":
		if strings.IndexByte(v, '=') > 0 && !pathLike(v) {
			m.cookies(from, to)
		}
	case "last":
		if none(v) || !c.isLast(m, to) {
			return anything
		}
	}
	a, b := c.part(m, k, v, from)
	m.hide(from+a, from+b)
	if len(m.found) == 0 {
		return anything
	}
	return consumed
}

// part gives the part of a value, which stands at from, that is a secret; a == b if there is none.
func (c *command) part(m *masker, k kind, v string, from int) (a, b int) {
	whole := false
	switch colon := strings.IndexByte(v, ':'); k {
	case "two":
		whole = true
	case "secret", "joined", "last":
		whole = !none(v) && !pathLike(v) && !notPasswords[strings.ToLower(v)] && !connection(v)
	case "likely":
		whole = !none(v) && !pathLike(v) && (!has(v, '/') || len(v) >= 32) && (passwordish(v) || random(v) || mixed(v))
	case "guess":
		whole = c.guess(m, v)
	case "named":
		if !isAssignment(v) && !(m.prose && lettersOnly(v)) {
			return c.means.secretIn(v, false)
		}
	case "user":
		return c.pair(v, from == 0)
	case "acl":
		if v != "" && has("><#", v[0]) {
			return 1, len(v)
		}
	case "target":
		if a, b := behind(v, colon); a > 1 {
			if at := strings.LastIndexByte(v, '@'); at > colon {
				b = at
			}
			return a, b
		}
	case "where":
		if strings.HasPrefix(v, "pass:") {
			return behind(v, colon)
		}
		whole = colon < 0 && v != "stdin" && !none(v) && !pathLike(v)
	case "percent":
		return behind(v, strings.IndexByte(v, '%'))
	case "comma":
		if n := strings.IndexByte(v, ','); n >= 0 {
			return behind(v, n)
		}
		return c.pair(v, from == 0)
	case "tail":
		if colon = strings.LastIndexByte(v, ':'); colon >= 0 && v[0] != '/' && !pathLike(v[colon+1:]) {
			return behind(v, colon)
		}
	case "cert":
		colon = strings.LastIndexByte(v, ':')
		if colon > 1 && !has(v[colon:], '/') && !strings.HasPrefix(v, "pkcs11:") {
			return behind(v, colon)
		}
	case "slash":
		user, rest, ok := strings.Cut(v, "/")
		at := strings.LastIndexByte(rest, '@')
		if at < 0 || strings.HasPrefix(rest, "/") {
			at = len(rest)
		}
		if ok && user != "" && user[0] != '-' && !strings.ContainsAny(user, ".@") && !has(rest[:at], '/') {
			return len(user) + 1, len(user) + 1 + at
		}
	case "assign":
		if n := strings.IndexByte(v, '='); n > 0 && v[0] != '-' {
			a, b := unquoted(v, n+1, len(v))
			if w := v[a:b]; !none(w) && w != "-" && !public[strings.ToLower(v[:n])] && !fewDigits(w) {
				return a, b
			}
		}
	case "nameof":
		if meaningOf(path.Base(v)) >= aSecret {
			c.about |= secrets
		} else {
			whole = c.key && c.tool == nil && (random(v) || passwordish(v))
		}
	}
	if !whole {
		return 0, 0
	}
	return 0, len(v)
}

// behind gives what follows the sign at n, if there is one.
func behind(v string, n int) (from, to int) {
	if n < 0 || none(v[n+1:]) {
		return 0, 0
	}
	return n + 1, len(v)
}

// unquoted takes quotes away from around a part.
func unquoted(s string, from, to int) (int, int) {
	for from < to && (isQuote(s[from]) || s[from] == '\\' && from+1 < to && isQuote(s[from+1])) {
		if s[from] == '\\' {
			from++
		}
		from++
	}
	for to > from && isQuote(s[to-1]) {
		if to--; to > from && s[to-1] == '\\' {
			to--
		}
	}
	return from, to
}

// connection is true of Server=x;Password=y, which text knows.
func connection(v string) bool {
	head, rest, ok := strings.Cut(v, ";")
	return ok && strings.IndexByte(head, '=') > 0 && has(rest, '=') || v[0] == '{' && has(v, ':')
}

// pair gives the secret of user:secret. whole is whether an argument is nothing else.
func (c *command) pair(v string, whole bool) (from, to int) {
	user, pass, colon := strings.Cut(v, ":")
	switch {
	case !colon:
		if c.tool != nil && whole && !has(v, '@') && (passwordish(v) || random(v)) && !pathLike(v) {
			return 0, len(v)
		}
		return 0, 0
	case strings.HasPrefix(pass, "//"), none(v) && v[0] != '{':
		return 0, 0
	case pass == "":
		if len(user) >= 16 && !none(user) || random(user) {
			return 0, len(user)
		}
		return 0, 0
	case none(pass), only(v, numerals+":"):
		return 0, 0
	case !slices.ContainsFunc(lists["pairing"], func(o string) bool { return c.tool.option(o) == "user" }) &&
		(user == pass || only(pass, numerals) && len(pass) < 6 || has(user, '/') || pass[0] == '/' || groups[pass]):
		return 0, 0 // not sure to be one, and may be something else
	}
	return len(user) + 1, len(v)
}

// guess says whether the value of -p and the like is a secret: if it looks like one, or if there is a user whose it may
// be.
func (c *command) guess(m *masker, v string) bool {
	if none(v) || pathLike(v) || only(v, numerals) || has(v, '/') || methods[strings.ToLower(v)] {
		return false
	}
	return passwordish(v) || random(v) || mixed(v) || leet(v) ||
		!strings.ContainsAny(v, ":,= ") && (c.is(logins) || c.hasUser(m))
}

// hasUser says whether the command has an option with a user and a value.
func (c *command) hasUser(m *masker) bool {
	if c.user == 0 {
		words := c.args[:min(len(c.args), 64)]
		if c.inner {
			rest := m.s[c.at:min(m.end, c.at+1024)]
			rest = rest[:until(rest, 0, "\n;|")]
			m.work -= 4 * len(rest)
			words = strings.Fields(rest)
		}
		c.user = -1
		if slices.ContainsFunc(words, func(w string) bool {
			return users[w] || strings.HasPrefix(w, "--user=") || strings.HasPrefix(w, "--username=")
		}) {
			c.user = 1
		}
	}
	return c.user > 0
}

// isLast says whether nothing follows in the command.
func (c *command) isLast(m *masker, to int) bool {
	if !c.inner {
		return c.at+1 >= len(c.args)
	}
	rest := strings.TrimLeft(m.s[to:c.end], "\"'\\ ")
	return rest == "" || has("\n;|&)>", rest[0])
}
