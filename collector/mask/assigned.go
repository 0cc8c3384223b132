// SPDX-License-Identifier: Apache-2.0

package mask

import "strings"

// pair is a name with a value, in an argument.
type pair struct {
	at       int // of the = or : between
	begin    int // of the name
	name     string
	what     meaning
	tight    bool // nothing stands between the name and the sign
	from, to int  // of the value, without its quotes
	plain    bool // it has none
}

// assigned gives the secret in the value after the = or : at i, if the name before it is a secret's.
func (m *masker) assigned(i int) (from, to int) {
	s := m.s
	sep, next, before := s[i], byteAt(s, i+1), byteAt(s, i-1)
	if sep == ':' && (next == ':' || before == ':') || before == '=' {
		return 0, 0 // a::b; what is compared was looked at with the first of them
	}
	p := pair{at: i}
	end := back(s, i, 3, ":+?!=")
	p.tight = end > 0 && s[end-1] != ' '
	end = back(s, end, 6, "\"'` \\])")
	p.begin = nameStart(s, end)
	p.name = s[p.begin:end]
	if p.what = meaningOf(p.name); p.what == ordinary {
		if from, to = m.special(&p); p.what == ordinary {
			return from, to
		}
	}
	m.value(&p)
	v := s[p.from:p.to]
	around := byteAt(s, p.begin-1)
	switch {
	case p.what == aKey && hasSuffixFold(p.name, "key") && len(v) < longestName && meaningOf(v) >= aSecret && name(v):
		m.named = p.to // ParameterKey=DBPassword,ParameterValue=x
		return 0, 0
	case p.plain && v != "" && (sep == '=' && next == '=' || before == '!'): // token == x
		return 0, 0
	case around == '$' && sep == ':', around == '{' && byteAt(s, p.begin-2) == '$': // ${TOKEN:-}, $HOST:$PORT
		return 0, 0
	case p.what == aHeader, p.what == aCookie && sep == ':':
		return m.headerOf(&p)
	case p.what == aKey && (hasSuffixFold(p.name, "sig") || hasSuffixFold(p.name, "code") && has("?&", around)):
		if len(v) < 16 || none(v) || digits(v)+strings.Count(v, "%") < 2 {
			return 0, 0
		}
		return p.from, p.to
	case !p.plain && label(v), p.plain && m.isCode(&p): // "token": "Access token"
		return 0, 0
	case asks(p.name) && sep == '=' && !has(v, ':') && !passwordish(v) && !random(v):
		return 0, 0 // update_password=always
	}
	if strings.HasSuffix(p.name, "_Key") { // CF_Key=, as acme.sh has them
		p.what = aSecret
	}
	if p.plain && m.words {
		v = strings.TrimSuffix(v, "/") // s/password=x/password=y/
	}
	a, b := p.what.secretIn(v, p.plain && (m.words || p.begin > 2))
	return p.from + a, p.from + b
}

// special finds what a name that is no secret's means by what stands before; or the secret, if the name is a user's.
func (m *masker) special(p *pair) (from, to int) {
	s := m.s
	isName := hasSuffixFold(p.name, "name") || hasSuffixFold(p.name, "key")
	switch {
	case m.named > 0 && p.at-m.named < 256 && hasSuffixFold(p.name, "value"),
		p.name == "data" && strings.HasPrefix(s, "secret,"): // of QEMU
		p.what = aSecret
	case isName:
		m.value(p)
		if is := meaningOf(s[p.from:p.to]); is == aSecret || is == aPassword || is == aKey && p.to-p.from > len("key") {
			m.named = p.to
		}
	case s[p.at] == ':' && m.words && p.tight && p.name != "" && byteAt(s, p.at+1) > ' ':
		// auth admin:x, as configurations have it.
		before := m.wordBefore(p.begin)
		if meaningOf(before) != anAuth && !hasSuffixFold(before, "digest") && !hasSuffixFold(before, "basic") {
			break
		}
		m.value(p)
		if v := s[p.from:p.to]; passwordish(v) || leet(v) || random(v) {
			return p.from, p.to
		}
	}
	return 0, 0
}

// isCode is true of values without quotes that are code, or words of a sentence.
func (m *masker) isCode(p *pair) bool {
	s := m.s
	v := s[p.from:p.to]
	words := lettersOnly(v)
	equals, after, before := s[p.at] == '=', byteAt(s, p.to), byteAt(s, p.begin-1)
	glued := !equals && p.at+1 < len(s) && s[p.at+1] != ' '
	switch {
	case equals && m.prose && words && (p.what != aPassword || methods[v] || v == "hash" ||
		after == ' ' && !m.shellish(p.begin)):
		return true
	case !equals && words && (m.words && (m.prose || after == ' ') || after == '<' || after == '['):
		return true // a sentence; password: Option<String>
	case words && byteAt(s, p.at-1) == '+':
		return true // token += more
	case m.words && (!p.tight || !equals || after == ')' || after == ',') && name(v) && meaningOf(v) >= aSecret &&
		digits(v) < 4 && !leet(strings.ReplaceAll(v, "-", "")):
		return true // PrivateKey = testPrivateKey
	case lettersOnly(strings.TrimRight(v, "$")) && p.begin > 2 && (before == ':' && !equals ||
		tokenByte(s[p.begin-2]) && (before == '[' || before == '/' && tokenByte(s[p.begin-3]))):
		return true // TestToken/password=empty, session:token:count
	case !equals && before == '/' && only(v, numerals+".v-"):
		return true // packages.example.com/acme/token:2.0.1
	case words && strings.IndexByte(v, '-') > 0 && strings.ToLower(p.name) == "secret" && meaningOf(v) >= aSecret:
		return true // secret=git-creds: its name
	case !p.tight && (public[v] || m.code && lettersOnly(strings.ToLower(v))):
		return true // password = username
	}
	// password:reset, auth:lock:42, Credentials:key_id=x
	return glued && (methods[strings.ToLower(v)] || p.what == anAuth && !random(v) || isAssignment(v))
}

// value finds what follows the sign of a pair.
func (m *masker) value(p *pair) {
	p.from, p.to, p.plain = m.valueAt(p)
	m.work -= p.to - p.at
}

func (m *masker) valueAt(p *pair) (from, to int, plain bool) {
	s := m.s
	equals := s[p.at] == '='
	spaced := skip(s[:min(len(s), p.at+4)], p.at+1, "=>~")
	from = skip(s, spaced, " \t")
	if from > spaced && equals && p.tight && s[spaced-1] == '=' && !isQuote(byteAt(s, from)) && m.shellish(p.begin) {
		return spaced, spaced, true // TOKEN= command
	}
	open := skip(s, from, `\`)
	escaped := open > from
	if has("fbruFBRU@$", byteAt(s, open)) && isQuote(byteAt(s, open+1)) {
		open++
	}
	if q := byteAt(s, open); has("\"'`", q) {
		if open+1 == len(s) || has(" \t\n)]};,|&", s[open+1]) {
			return open, open, true // the end of what the name is in
		}
		from = open + 1
		for to = from; to < len(s); to++ {
			if s[to] != q {
				continue
			}
			if !escaped && equals && to > from && byteAt(s, to+1) == q {
				to++ // 'it''s'
			} else if escaped != (s[to-1] != '\\' || q == '\'') {
				break
			}
		}
		if escaped {
			to = from + len(strings.TrimRight(s[from:to], `\`))
		}
		return from, to, false
	}
	if equals && byteAt(s, from) == '{' { // Pwd={a;b}, as ODBC has it
		n := strings.IndexByte(s[from:min(len(s), from+128)], '}')
		if n > 1 && !has(s[from:from+n], ' ') && (from+n+1 == len(s) || s[from+n+1] == ';') && !none(s[from:from+n+1]) {
			return from + 1, from + n, false
		}
	}
	whole := !m.words && p.begin <= 2 && only(s[:p.begin], "-DPeo/")
	for to = from; to < len(s); to++ {
		end := false
		switch s[to] {
		case ' ', '\t', '\n', '\r':
			end = true
		case '"', '\'', '`', '|', ')', '}', ']', '<', '\\':
			end = !whole
		case '#':
			end = p.begin > 0 && has("?&", s[p.begin-1]) // the name is a parameter of a URL
		case '&', ';', ',':
			end = !whole || pairFollows(s[to+1:])
		}
		if end {
			break
		}
	}
	return from, to, true
}

// shellish says whether a name begins a word, as in A=b command.
func (m *masker) shellish(begin int) bool {
	return begin == 0 || has(spaces+";|&(", m.s[begin-1])
}

// pairFollows is true of name=… and name:…
func pairFollows(s string) bool {
	s = strings.TrimLeft(s, " ")
	i := skip(s[:min(len(s), longestName)], 0, nameBytes+" ")
	return s == "" || i > 0 && has("=:", byteAt(s, i))
}

// headerOf gives the secret in the value of a header: it goes to the end of the quotes it stands in, or of the line.
func (m *masker) headerOf(p *pair) (from, to int) {
	s := m.s
	from = skip(s, p.at+1, ` =>\`)
	if has("fbru", byteAt(s, from)) && isQuote(byteAt(s, from+1)) {
		from++
	}
	ends := "\"'`\r\n"
	switch open, around := byteAt(s, from), byteAt(s, p.begin-1); {
	case isQuote(open):
		ends = s[from : from+1]
		from++
	case isQuote(around):
		ends = s[p.begin-1:p.begin] + "\r\n"
	case !m.words || p.begin == 0:
		ends = "\r\n"
	}
	to = until(s, from, ends)
	if next := m.joint(to); next > to { // what stands before may be secret, too: 'Bearer x' + 'y'
		if p.what == aCookie {
			m.cookies(from, to)
		} else {
			a, b := p.what.secretIn(s[from:to], false)
			m.hide(from+a, from+b)
		}
		from = next
		to = until(s, from, "\"'`\r\n")
	} else {
		to = from + len(strings.TrimRight(s[from:to], `\`))
	}
	m.work -= to - p.at
	v := s[from:to]
	switch {
	case m.prose && digits(v) == 0:
		return 0, 0
	case p.what == aCookie && has(v, '='):
		if strings.IndexByte(v, '=') > 0 {
			m.cookies(from, to)
		}
		return 0, 0
	case p.what == aCookie && (v == "" || has("&{[*(", v[0]) || strings.HasPrefix(v, "range ")):
		return 0, 0 // code
	}
	a, b := p.what.secretIn(v, false)
	return from + a, from + b
}
