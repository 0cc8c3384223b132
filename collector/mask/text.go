// SPDX-License-Identifier: Apache-2.0

package mask

import "strings"

// text goes over the argument once. A secret that begins within what is searched is recognised by all of it, and
// masked, even if it ends beyond.
func (m *masker) text() {
	s := m.s
	for i := 0; i < m.end; {
		if m.work < 0 {
			m.end = i
			break
		}
		from, to := 0, 0
		switch s[i] {
		case '=', ':':
			if strings.HasPrefix(s[i:], "://") {
				i = m.url(i)
				continue
			}
			from, to = m.assigned(i)
		case '"', '\'':
			from, to = m.quoted(i)
		case '(':
			m.hide(m.called(i))
		case '>':
			from, to = m.element(i)
		case '-':
			if strings.HasPrefix(s[i:], "-----BEGIN ") {
				from, to = m.pem(i)
			}
		case '@':
			m.hide(m.userinfo(i))
		default:
			if len(shapes[s[i]]) > 0 && (i == 0 || !tokenByte(s[i-1])) {
				from, to = m.token(i)
			}
		}
		if from >= to {
			i++
			continue
		}
		m.hide(from, to)
		for next := m.joint(to); next > to; next = m.joint(to) { // 'a' + 'b'
			to = until(s, next, "\"'`\n")
			m.work -= to - next
			m.hide(next, to)
		}
		i = to
	}
	m.netrc()
	m.expected()
	m.manifest()
}

// wordBefore gives the name that ends before at, but for spaces.
func (m *masker) wordBefore(at int) string {
	at = len(strings.TrimRight(m.s[:at], " "))
	for at > 1 && m.s[at-1] == ']' && isQuote(m.s[at-2]) {
		at -= 2
	}
	return m.s[nameStart(m.s, at):at]
}

// joint gives where a string goes on that code joins of literals, as in 'Bearer ' + 'x', where the first ends at i;
// else i.
func (m *masker) joint(i int) int {
	s := m.s
	n := skip(s, i, `\`)
	if !has("\"'`", byteAt(s, n)) {
		return i
	}
	if byteAt(s, i-1) == ' ' && byteAt(s, n+1) != s[n] && isQuote(byteAt(s, n+1)) {
		return n + 2 // "Token "'x'
	}
	near := s[:min(len(s), n+16)]
	plus := skip(near, n+1, ` \`)
	if !has("+.&", byteAt(near, plus)) {
		return i
	}
	next := skip(near, plus+1, `. \`)
	if !has("\"'`", byteAt(near, next)) {
		return i
	}
	return next + 1
}

// element gives the text of an XML element whose start tag ends at i: <password>x</password>, <entry key="password">x<.
func (m *masker) element(i int) (from, to int) {
	s := m.s
	from = i + 1
	if byteAt(s, from) <= ' ' || s[from] == '<' || !nameByte(byteAt(s, i-1)) && byteAt(s, i-1) != '"' {
		return 0, 0
	}
	before := s[max(0, i-2*longestName-1):i]
	open := strings.LastIndexAny(before, "<>\n")
	if open < 0 || before[open] != '<' || byteAt(before, open+1) == '/' {
		return 0, 0
	}
	tag, attributes, _ := strings.Cut(before[open+1:], " ")
	what := meaningOf(tag)
	if what == ordinary {
		what = meaningOf(strings.TrimRight(attributes, quotes))
	}
	to = until(s, from, "<")
	m.work -= to - i + len(before) - open
	text := s[from:to]
	tag = strings.ToLower(tag)
	if what == ordinary && m.named > 0 && i-m.named < 64 && (tag == "string" || tag == "value") {
		what = aSecret
	}
	switch {
	case to == len(s), what != ordinary && label(text):
		return 0, 0
	case what == ordinary && (tag == "key" || tag == "name") && meaningOf(text) >= aSecret:
		m.named = to
	}
	a, b := what.secretIn(text, false)
	return from + a, from + b
}

// cookies hides the values of a=x; b=y.
func (m *masker) cookies(from, to int) {
	for cookie := range strings.SplitSeq(m.s[from:to], ";") {
		end := from + len(cookie)
		name, v, ok := strings.Cut(cookie, "=")
		if ok && !fewDigits(v) && !none(v) && (len(v) > 12 || !lettersOnly(v) || meaningOf(name) != ordinary) {
			m.hide(end-len(v), end)
		}
		from = end + 1
	}
}
