// SPDX-License-Identifier: Apache-2.0

package mask

import (
	"slices"
	"strings"
)

// quoted gives what stands in the quotes that open at i, if it is a secret by what stands before: PASSWORD 'x',
// setPassword("x"), setenv("TOKEN", "x").
func (m *masker) quoted(i int) (from, to int) {
	s := m.s
	at := len(strings.TrimRight(s[:i], `\`)) - 1
	if at < 0 || i+1 >= len(s) || has(" \t\n)]};,+", s[i+1]) {
		return 0, 0 // one that closes
	}
	what := ordinary
	switch s[at] {
	case ' ':
		if what = m.nameBefore(at); what < aSecret {
			what = m.argumentBefore(at)
		}
	case '(':
		if w := m.wordBefore(at); !(asks(w) && !hasSuffixFold(w, "password")) && !hasSuffixFold(w, "credential") &&
			!hasSuffixFold(w, "credentials") {
			what = meaningOf(w)
		}
		if what < aSecret {
			return 0, 0
		}
	case ',':
		what = m.argumentBefore(at)
	}
	if what == ordinary {
		return 0, 0
	}
	return m.literal(i, what)
}

// literal gives the secret in the quotes that open at i.
func (m *masker) literal(i int, what meaning) (from, to int) {
	s := m.s
	escaped := byteAt(s, i-1) == '\\'
	from = i + 1
	for to = from; to < len(s) && s[to] != s[i]; to++ {
		if s[to] == '\\' && byteAt(s, to+1) == s[i] {
			if escaped {
				break
			}
			to++
		}
	}
	m.work -= to - i
	if to >= len(s) {
		return 0, 0
	}
	v := s[from:to]
	if strings.HasSuffix(v, ": ") || strings.HasSuffix(v, ":") && has(v, ' ') {
		return 0, 0 // a prompt
	}
	a, b := what.secretIn(v, false)
	return from + a, from + b
}

// nameBefore says what the name means that ends before at. IDENTIFIED BY is one.
func (m *masker) nameBefore(at int) meaning {
	w := m.wordBefore(at)
	before := m.s[max(0, at-64):at]
	switch strings.ToLower(w) {
	case "by", "using":
		if containsFold(before, "identified by", "identified with") {
			return aPassword
		}
		return ordinary
	case "from", "to":
		if containsFold(before, "password from") {
			return aPassword
		}
	case "-string", "-s":
		if containsFold(before[max(0, len(before)-48):], "securestring") {
			return aPassword
		}
	}
	if strings.HasPrefix(w, "-") && asks(w) {
		return ordinary // --ask-pass 'x'
	}
	return meaningOf(w)
}

// argumentBefore says what the string literal before the comma at means, as in setenv("TOKEN", "x").
func (m *masker) argumentBefore(at int) meaning {
	s := m.s
	if s[at] == ' ' {
		at = len(strings.TrimRight(s[:at], " ")) - 1
	}
	if at < 3 || s[at] != ',' {
		return ordinary
	}
	end := len(strings.TrimRight(s[:at], " "))
	w := m.wordBefore(end)
	if upper(byteAt(s, end-1)) && constant(w[strings.LastIndexByte(w, '.')+1:]) {
		return meaningOf(w) // curl_setopt(c, CURLOPT_USERPWD, "a:b")
	}
	if w != "" && strings.HasSuffix(s[:end-len(w)], "{:") {
		return meaningOf(w) // {:bearer, "x"}
	}
	q := byteAt(s, end-1)
	if !isQuote(q) {
		return ordinary
	}
	end = len(strings.TrimRight(s[:end-1], `\`))
	begin := nameStart(s, end)
	what := meaningOf(s[begin:end])
	if begin < 2 || s[begin-1] != q {
		return ordinary
	}
	begin--
	if s[begin-1] == ' ' && hasSuffixFold(m.wordBefore(begin), "basic_auth") { // ruby does without brackets
		return aPassword
	}
	call := strings.TrimRight(s[:begin], `\`)
	if what == ordinary || len(call) < 2 || !strings.HasSuffix(call, "(") {
		return ordinary
	}
	setter := strings.ToLower(m.wordBefore(len(call) - 1))
	if !slices.ContainsFunc(lists["setter"], func(verb string) bool { return strings.Contains(setter, verb) }) {
		return ordinary
	}
	return what
}

// called gives the secret among the literals in the bracket at i: auth=("user", "x"), smtp.login("user", "x").
func (m *masker) called(i int) (from, to int) {
	s := m.s
	name := m.s[:i]
	for name != "" && has(" =:", name[len(name)-1]) {
		name = name[:len(name)-1]
	}
	if name == "" || !has("hnlsetoicpdw", name[len(name)-1]|0x20) {
		return 0, 0
	}
	name = m.wordBefore(len(name))
	n := 0
	for _, call := range calls {
		if hasSuffixFold(name, call[0]) {
			n = int(call[1][0] - '0')
		}
	}
	if n == 0 {
		return 0, 0
	}
	m.work -= min(1024, len(s)-i)
	// The nth of the arguments, each a literal or something without brackets.
	arg, deep := 1, 0
	for j := i + 1; j < len(s) && j-i < 1024 && deep >= 0; j++ {
		switch s[j] {
		case '{', '[', '(':
			deep++
		case '}', ']', ')':
			deep--
		case ',':
			if deep == 0 {
				arg++
			}
		case '"', '\'':
			if arg == n && deep == 0 {
				if before := strings.TrimRight(s[i:j], " "); !has("(,", before[len(before)-1]) {
					return 0, 0 // name='x'
				}
				return m.literal(j, aPassword)
			}
			end := strings.IndexByte(s[j+1:], s[j])
			if end < 0 {
				return 0, 0
			}
			j += 1 + end
		}
	}
	return 0, 0
}
