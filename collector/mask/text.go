// SPDX-License-Identifier: Apache-2.0

package mask

import "strings"

// what kinds of bytes text looks at. The others it passes over.
const (
	sign      = iota + 1 // = :
	quote                // " '
	opening              // (
	closing              // >
	dash                 // -
	at                   // @
	tokenHead            // the first byte of a shape
)

var textClass = func() (class [256]uint8) {
	for b := range 256 {
		if len(shapes[b]) > 0 {
			class[b] = tokenHead
		}
	}
	class['B'], class['b'], class['L'] = tokenHead, tokenHead, tokenHead
	class['='], class[':'], class['"'], class['\''], class['('], class['>'], class['-'], class['@'] = sign, sign, quote,
		quote, opening, closing, dash, at
	return class
}()

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
		switch textClass[s[i]] {
		case 0:
		case sign:
			if s[i] == ':' && strings.HasPrefix(s[i:], "://") {
				i = m.url(i)
				continue
			}
			from, to = m.assigned(i)
		case quote:
			from, to = m.quoted(i)
		case opening:
			from, to = m.called(i)
			m.hide(from, to)
			from, to = 0, 0
		case closing:
			from, to = m.element(i)
		case dash:
			if i+10 < len(s) && s[i+1] == '-' && strings.HasPrefix(s[i:], "-----BEGIN ") {
				from, to = m.pem(i)
			}
		case at:
			from, to = m.userinfo(i)
			m.hide(from, to)
			from, to = 0, 0
		case tokenHead:
			if i == 0 || !tokenByte(s[i-1]) {
				from, to = m.token(i)
			}
		}
		if from < to {
			m.hide(from, to)
			for next := m.joint(to); next > to; next = m.joint(to) { // 'a' + 'b'
				for to = next; to < len(s) && strings.IndexByte("\"'`\n", s[to]) < 0; {
					to++
				}
				m.work -= to - next
				m.hide(next, to)
			}
			i = to
			continue
		}
		i++
	}
	m.netrc()
	m.expected()
	m.manifest()
}

// assigned gives the secret in the value after the = or : at i, if the name before it is a secret's.
func (m *masker) assigned(i int) (from, to int) {
	s := m.s
	if s[i] == ':' && (i+1 < len(s) && s[i+1] == ':' || i > 0 && s[i-1] == ':') {
		return 0, 0 // a::b
	}
	if i > 0 && s[i-1] == '=' {
		return 0, 0 // what is compared was looked at with the first of them
	}
	end := i
	for end > 0 && i-end < 3 && strings.IndexByte(":+?!=", s[end-1]) >= 0 {
		end--
	}
	tight := end > 0 && s[end-1] != ' '
	for n := end; end > 0 && n-end < 6 && strings.IndexByte("\"'` \\])", s[end-1]) >= 0; {
		end--
	}
	begin := end
	for begin > 0 && end-begin < longestName && nameByte(s[begin-1]) {
		begin--
	}
	what := meaningOf(s[begin:end])
	if what == aKey && hasSuffixFold(s[begin:end], "key") {
		if from, to, _ := m.value(i, begin, tight); meaningOf(s[from:to]) >= aSecret && to-from < longestName &&
			name(s[from:to]) {
			m.named = to // ParameterKey=DBPassword,ParameterValue=x
			return 0, 0
		}
	}
	if what == ordinary {
		switch {
		case m.named > 0 && i-m.named < 256 && hasSuffixFold(s[begin:end], "value"),
			s[begin:end] == "data" && strings.HasPrefix(s, "secret,"): // of QEMU
			what = aSecret
		case end > begin && (s[end-1]|0x20 == 'e' || s[end-1]|0x20 == 'y') && (hasSuffixFold(s[begin:end], "name") ||
			hasSuffixFold(s[begin:end], "key")):
			from, to, _ = m.value(i, begin, tight)
			if is := meaningOf(s[from:to]); is == aSecret || is == aPassword || meaningOf(s[from:to]) == aKey &&
				to-from > len("key") {
				m.named = to
			}
			return 0, 0
		case s[i] == ':' && m.words && tight && begin > 1 && s[begin-1] == ' ' && end > begin && i+1 < len(s) &&
			s[i+1] > ' ':
			// auth admin:x, as configurations have it.
			if before := meaningOf(m.wordBefore(begin)); before != anAuth && !hasSuffixFold(m.wordBefore(begin),
				"digest") && !hasSuffixFold(m.wordBefore(begin), "basic") {
				return 0, 0
			}
			from, to, _ = m.value(i, begin, tight)
			if v := s[from:to]; passwordish(v) || leet(v) || random(v) {
				return from, to
			}
			return 0, 0
		default:
			return 0, 0
		}
	}
	if what == aKey && strings.HasSuffix(s[begin:end], "_Key") { // CF_Key=, as acme.sh has them
		what = aSecret
	}
	if s[i] == '=' && i+1 < len(s) && s[i+1] == '=' || i > 0 && s[i-1] == '!' {
		if from, to, plain := m.value(i, begin, tight); plain && from < to {
			return 0, 0 // token == x
		}
	}
	if begin > 0 && s[begin-1] == '$' && s[i] == ':' {
		return 0, 0 // ${TOKEN:-}, $HOST:$PORT
	}
	if begin > 1 && s[begin-1] == '{' && s[begin-2] == '$' {
		return 0, 0
	}
	from, to, plain := m.value(i, begin, tight)
	v := s[from:to]
	switch {
	case what == aHeader || what == aCookie && s[i] == ':':
		from, to, plain = m.header(i, begin)
		v = s[from:to]
		if m.prose && digits(v) == 0 {
			return 0, 0
		}
		if what == aCookie {
			if strings.IndexByte(v, '=') > 0 {
				m.cookies(from, to)
				return 0, 0
			}
			if fewDigits(v) || v == "" || strings.IndexByte("&{[*(", v[0]) >= 0 || strings.HasPrefix(v, "range ") {
				return 0, 0
			}
		}
	case what == aKey && (hasSuffixFold(s[begin:end], "sig") || hasSuffixFold(s[begin:end], "code") && begin > 0 &&
		(s[begin-1] == '?' || s[begin-1] == '&')):
		if len(v) >= 16 && !none(v) && digits(v)+strings.Count(v, "%") > 1 {
			return from, to
		}
		return 0, 0
	case s[i] == '=' && m.prose && plain && lettersOnly(v) && (what != aPassword ||
		methods[v] || v == "hash"), s[i] == '=' && m.prose && plain &&
		lettersOnly(v) && to < len(s) && s[to] == ' ' && !m.shellish(begin):
		return 0, 0
	case s[i] == ':' && plain && m.words && (m.prose || to < len(s) && s[to] == ' ') && lettersOnly(v):
		return 0, 0 // a sentence
	case plain && i > 0 && s[i-1] == '+' && lettersOnly(v):
		return 0, 0 // token += more
	case plain && m.words && (!tight || s[i] == ':' || to < len(s) && (s[to] == ')' || s[to] == ',')) && name(v) &&
		meaningOf(v) >= aSecret && digits(v) < 4 && !leet(strings.ReplaceAll(v, "-", "")):
		return 0, 0 // PrivateKey = testPrivateKey
	case plain && lettersOnly(strings.TrimRight(v, "$")) && begin > 2 && (s[begin-1] == '/' && tokenByte(s[begin-2]) &&
		tokenByte(s[begin-3]) || s[begin-1] == '[' && tokenByte(s[begin-2]) || s[begin-1] == ':' && s[i] == ':'):
		return 0, 0 // TestToken/password=empty, session:token:count
	case plain && s[i] == ':' && begin > 0 && s[begin-1] == '/' && strings.Trim(v, "0123456789.v-") == "":
		return 0, 0 // ghcr.io/acme/token:2.0.1
	case plain && s[i] == ':' && lettersOnly(v) && to < len(s) && (s[to] == '<' || s[to] == '['):
		return 0, 0 // password: Option<String>
	case plain && foldedWord(s[begin:end]) == "secret" && lettersOnly(v) && strings.IndexByte(v, '-') > 0 &&
		meaningOf(v) >= aSecret:
		return 0, 0 // secret=git-creds: its name
	case plain && !tight && (public[v] || m.code && lettersOnly(strings.ToLower(v))):
		return 0, 0 // password = username
	case !plain && label(v):
		return 0, 0 // "token": "Access token"
	case s[i] == ':' && plain && i+1 < len(s) && s[i+1] != ' ' && methods[foldedWord(v)]:
		return 0, 0 // password:reset
	}
	if s[i] == ':' && plain && (i+1 < len(s) && s[i+1] != ' ') && (what == anAuth && !random(v) || isAssignment(v)) {
		return 0, 0 // auth:lock:42, Credentials:key_id=x
	}
	if asks(s[begin:end]) && s[i] == '=' && strings.IndexByte(v, ':') < 0 && !passwordish(v) && !random(v) {
		return 0, 0 // update_password=always
	}
	if plain && m.words && strings.HasSuffix(v, "/") {
		to-- // s/password=x/password=y/
		v = s[from:to]
	}
	a, b := what.secretIn(v, plain && (m.words || begin > 2))
	return from + a, from + b
}

// value gives what follows the sign at i, without its quotes; plain if there are none. begin is where the name begins.
func (m *masker) value(i, begin int, tight bool) (from, to int, plain bool) {
	s := m.s
	sep := s[i]
	from = i + 1
	defer func() { m.work -= to - i }()
	for from < len(s) && from < i+4 && (s[from] == '=' || s[from] == '>' || s[from] == '~') {
		from++
	}
	spaced := from
	for from < len(s) && (s[from] == ' ' || s[from] == '\t') {
		from++
	}
	if from > spaced && sep == '=' && tight && s[spaced-1] == '=' && (from == len(s) || s[from] != '"' &&
		s[from] != '\'') && m.shellish(begin) {
		return spaced, spaced, true // TOKEN= command
	}
	slashes := 0
	for from < len(s) && s[from] == '\\' {
		from++
		slashes++
	}
	if from+1 < len(s) && strings.IndexByte("fbruFBRU@$", s[from]) >= 0 && (s[from+1] == '"' || s[from+1] == '\'') {
		from++
	}
	if from < len(s) && (s[from] == '"' || s[from] == '\'' || s[from] == '`') {
		q := s[from]
		if from+1 == len(s) || strings.IndexByte(" \t\n)]};,|&", s[from+1]) >= 0 {
			return from, from, true // the end of what the name is in
		}
		from++
		for to = from; to < len(s); to++ {
			if s[to] == q && slashes == 0 && to > from && to+1 < len(s) && s[to+1] == q && sep == '=' {
				to++ // 'it''s'
			} else if s[to] == q && (slashes == 0) == (s[to-1] != '\\' || q == '\'') {
				break
			}
		}
		for slashes > 0 && to > from && s[to-1] == '\\' {
			to--
		}
		return from, to, false
	}
	if slashes > 0 {
		from -= slashes
	}
	if from < len(s) && s[from] == '{' && sep == '=' { // Pwd={a;b}, as ODBC has it
		if n := strings.IndexByte(s[from:min(len(s), from+128)], '}'); n > 1 && strings.IndexByte(s[from:from+n], ' ') < 0 && (from+n+1 ==
			len(s) || s[from+n+1] == ';') && !none(s[from:from+n+1]) {
			return from + 1, from + n, false
		}
	}
	whole := !m.words && begin <= 2 && strings.Trim(s[:begin], "-DPeo/") == ""
	for to = from; to < len(s); to++ {
		switch b := s[to]; b {
		case ' ', '\t', '\n', '\r':
			return from, to, true
		case '"', '\'', '`', '|', ')', '}', ']', '<', '\\':
			if !whole {
				return from, to, true
			}
		case '#':
			if m.inQuery(begin) {
				return from, to, true
			}
		case '&', ';', ',':
			if !whole || pairFollows(s[to+1:]) {
				return from, to, true
			}
		}
	}
	return from, to, true
}

// inQuery says whether the name that begins there is a parameter of a URL.
func (m *masker) inQuery(begin int) bool {
	return begin > 0 && (m.s[begin-1] == '?' || m.s[begin-1] == '&')
}

// shellish says whether a name begins a word, as in A=b command.
func (m *masker) shellish(begin int) bool {
	return begin == 0 || strings.IndexByte(" \t\n;|&(", m.s[begin-1]) >= 0
}

// pairFollows is true of name=… and name:…
func pairFollows(s string) bool {
	s = strings.TrimLeft(s, " ")
	i := 0
	for i < len(s) && i < longestName && (nameByte(s[i]) || s[i] == ' ') {
		i++
	}
	return i > 0 && i < len(s) && (s[i] == '=' || s[i] == ':') || s == ""
}

// header gives the value of a header with the sign at i: to its end, which is that of the quotes it stands in, or of
// the line.
func (m *masker) header(i, begin int) (from, to int, plain bool) {
	s := m.s
	from = i + 1
	defer func() { m.work -= to - i }()
	for from < len(s) && (s[from] == ' ' || s[from] == '=' || s[from] == '>' || s[from] == '\\') {
		from++
	}
	ends := "\"'`\r\n"
	if from < len(s) && strings.IndexByte("fbru", s[from]) >= 0 && from+1 < len(s) && (s[from+1] == '"' ||
		s[from+1] == '\'') {
		from++
	}
	switch {
	case from < len(s) && (s[from] == '"' || s[from] == '\''):
		ends = s[from : from+1]
		from++
	case begin > 0 && (s[begin-1] == '"' || s[begin-1] == '\''):
		ends = s[begin-1:begin] + "\r\n"
	case !m.words || begin == 0:
		ends = "\r\n"
	}
	to = from
	for to < len(s) && strings.IndexByte(ends, s[to]) < 0 {
		to++
	}
	if next := m.joint(to); next > to {
		for to = next; to < len(s) && strings.IndexByte("\"'`\r\n", s[to]) < 0; {
			to++
		}
		return next, to, false
	}
	for to > from && s[to-1] == '\\' {
		to--
	}
	return from, to, false
}

// quoted gives what stands in the quotes that open at i, if it is a secret by what stands before: PASSWORD 'x',
// setPassword("x"), setenv("TOKEN", "x").
func (m *masker) quoted(i int) (from, to int) {
	s := m.s
	at := i
	for at > 0 && s[at-1] == '\\' {
		at--
	}
	if at == 0 || i+1 >= len(s) || strings.IndexByte(" \t\n)]};,+", s[i+1]) >= 0 {
		return 0, 0 // one that closes
	}
	var what meaning
	switch s[at-1] {
	case ' ':
		if what = m.nameBefore(at - 1); what < aSecret {
			what = ordinary
		}
	case '(':
		w := m.wordBefore(at - 1)
		if what = meaningOf(w); what < aSecret || asks(w) && !hasSuffixFold(w, "password") || hasSuffixFold(w,
			"credential") || hasSuffixFold(w, "credentials") {
			return 0, 0
		}
	case ',':
		what = m.argumentBefore(at - 1)
	default:
		return 0, 0
	}
	if what == ordinary && s[at-1] == ' ' {
		what = m.argumentBefore(at - 1)
	}
	if what == ordinary {
		return 0, 0
	}
	return m.literal(i, what)
}

// literal gives the secret in the quotes that open at i.
func (m *masker) literal(i int, what meaning) (from, to int) {
	s := m.s
	to = i + 1
	for to < len(s) && s[to] != s[i] {
		if s[to] == '\\' && to+1 < len(s) && s[to+1] == s[i] {
			if i > 0 && s[i-1] == '\\' {
				break
			}
			to++
		}
		to++
	}
	m.work -= to - i
	if to >= len(s) || to == i+1 {
		return 0, 0
	}
	v := s[i+1 : to]
	if strings.HasSuffix(v, ": ") || strings.HasSuffix(v, ":") && strings.IndexByte(v, ' ') >= 0 {
		return 0, 0 // a prompt
	}
	a, b := what.secretIn(v, false)
	if a == b {
		return 0, 0
	}
	return i + 1 + a, i + 1 + b
}

// wordBefore gives the name that ends before at, but for spaces.
func (m *masker) wordBefore(at int) string {
	for at > 0 && m.s[at-1] == ' ' {
		at--
	}
	for at > 1 && m.s[at-1] == ']' && (m.s[at-2] == '"' || m.s[at-2] == '\'') {
		at -= 2
	}
	begin := at
	for begin > 0 && at-begin < longestName && nameByte(m.s[begin-1]) {
		begin--
	}
	return m.s[begin:at]
}

// nameBefore says what the name means that ends before at. IDENTIFIED BY is one.
func (m *masker) nameBefore(at int) meaning {
	w := m.wordBefore(at)
	if strings.EqualFold(w, "by") || strings.EqualFold(w, "using") {
		before := m.s[max(0, at-64):at]
		if hasSuffixFold(before, "identified by") || containsFold(before, "identified with") || containsFold(before,
			"identified by") {
			return aPassword
		}
		return ordinary
	}
	switch foldedWord(w) {
	case "from", "to":
		before := m.s[max(0, at-64):at]
		if hasSuffixFold(before, "password from") || containsFold(before, "password from") {
			return aPassword
		}
	case "-string", "-s":
		if containsFold(m.s[max(0, at-48):at], "securestring") {
			return aPassword
		}
	}
	if strings.HasPrefix(w, "-") && asks(w) {
		return ordinary
	}
	return meaningOf(w)
}

// argumentBefore says what the string literal before the comma at means, as in setenv("TOKEN", "x").
func (m *masker) argumentBefore(at int) meaning {
	s := m.s
	for at > 0 && s[at-1] == ' ' {
		at--
	}
	if at > 0 && s[at] == ' ' && s[at-1] == ',' {
		at--
	}
	if at < 3 || s[at] != ',' {
		return ordinary
	}
	end := at
	for end > 0 && (s[end-1] == ' ') {
		end--
	}
	if end > 0 && upper(s[end-1]) { // curl_setopt(c, CURLOPT_USERPWD, "a:b")
		w := m.wordBefore(end)
		if constant(w[strings.LastIndexByte(w, '.')+1:]) {
			return meaningOf(w)
		}
	}
	if w := m.wordBefore(end); w != "" && end > len(w)+1 && s[end-len(w)-1] == ':' && s[end-len(w)-2] == '{' {
		return meaningOf(w) // {:bearer, "x"}
	}
	if end == 0 || s[end-1] != '"' && s[end-1] != '\'' {
		return ordinary
	}
	q := s[end-1]
	end--
	for end > 0 && s[end-1] == '\\' {
		end--
	}
	begin := end
	for begin > 0 && end-begin < longestName && nameByte(s[begin-1]) {
		begin--
	}
	what := meaningOf(s[begin:end])
	if begin < 2 || s[begin-1] != q {
		return ordinary
	}
	begin--
	if s[begin-1] == ' ' && hasSuffixFold(m.wordBefore(begin), "basic_auth") { // ruby does without brackets
		return aPassword
	}
	if what == ordinary {
		return ordinary
	}
	for begin > 0 && s[begin-1] == '\\' {
		begin--
	}
	if begin < 2 || s[begin-1] != '(' {
		return ordinary
	}
	setter := foldedWord(m.wordBefore(begin - 1))
	for _, verb := range [...]string{"set", "put", "env", "define", "header", "property", "add", "append", "param",
		"insert", "with", "config", "option", "field", "item"} {
		if strings.Contains(setter, verb) {
			return what
		}
	}
	return ordinary
}

// called gives the secret among the literals in the bracket at i: auth=("user", "x"), smtp.login("user", "x").
func (m *masker) called(i int) (from, to int) {
	s := m.s
	at := i
	for at > 0 && (s[at-1] == ' ' || s[at-1] == '=' || s[at-1] == ':') {
		at--
	}
	if at == 0 || !nameByte(s[at-1]) {
		return 0, 0
	}
	w := m.wordBefore(at)
	n := 0
	for _, call := range calls {
		if hasSuffixFold(w, call[0]) {
			n = int(call[1][0] - '0')
		}
	}
	if n == 0 {
		return 0, 0
	}
	m.work -= 1024
	// The nth of the arguments, each a literal or something without brackets.
	arg, deep := 1, 0
	for j := i + 1; j < len(s) && j-i < 1024; j++ {
		switch s[j] {
		case '{', '[', '(':
			deep++
		case '}', ']':
			deep--
		case ',':
			if deep == 0 {
				arg++
			}
		case ')':
			if deep--; deep < 0 {
				return 0, 0
			}
		case '"', '\'':
			a, b := m.literal(j, aPassword)
			if arg == n && deep == 0 {
				if before := strings.TrimRight(s[i:j], " "); before[len(before)-1] != '(' &&
					before[len(before)-1] != ',' {
					return 0, 0 // name='x'
				}
				return a, b
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

// element gives the text of an XML element whose start tag ends at i: <password>x</password>, <entry key="password">x<.
func (m *masker) element(i int) (from, to int) {
	s := m.s
	if i == 0 || i+1 >= len(s) || s[i+1] <= ' ' || s[i+1] == '<' || !nameByte(s[i-1]) && s[i-1] != '"' {
		return 0, 0
	}
	begin := i
	for begin > 0 && i-begin < 2*longestName && s[begin-1] != '<' && s[begin-1] != '>' && s[begin-1] != '\n' {
		begin--
	}
	if begin == 0 || s[begin-1] != '<' || s[begin] == '/' {
		return 0, 0
	}
	tag, attrs, _ := strings.Cut(s[begin:i], " ")
	what := meaningOf(tag)
	if what == ordinary {
		what = meaningOf(strings.TrimRight(attrs, `"'`))
	}
	to = i + 1
	for to < len(s) && s[to] != '<' {
		to++
	}
	m.work -= to - begin
	if to == len(s) {
		return 0, 0
	}
	if what == ordinary {
		if m.named > 0 && i-m.named < 64 && (strings.EqualFold(tag, "string") || strings.EqualFold(tag, "value")) {
			what = aSecret
		} else {
			if (strings.EqualFold(tag, "key") || strings.EqualFold(tag, "name")) && meaningOf(s[i+1:to]) >= aSecret {
				m.named = to
			}
			return 0, 0
		}
	}
	if label(s[i+1 : to]) {
		return 0, 0
	}
	a, b := what.secretIn(s[i+1:to], false)
	return i + 1 + a, i + 1 + b
}

// netrc is for what ~/.netrc has: machine h login u password x.
func (m *masker) netrc() {
	s := m.s[:m.end]
	if !m.words || !strings.Contains(s, "login ") {
		return
	}
	for i := 0; ; {
		n := strings.Index(s[i:], "password ")
		if n < 0 {
			return
		}
		from := i + n + len("password ")
		to := from
		for to < len(s) && strings.IndexByte(" \t\n\\\"'", s[to]) < 0 {
			to++
		}
		if m.work -= 128; m.work < 0 {
			m.end = from
			return
		}
		before := strings.Fields(s[max(0, from-128):from])
		if len(before) >= 3 && strings.HasSuffix(before[len(before)-3], "login") && !none(s[from:to]) {
			m.hide(from, to)
		}
		i = from
	}
}

// manifest is for Secrets of Kubernetes: what is in them is one, whatever its name.
func (m *masker) manifest() {
	if !m.words || !strings.Contains(m.s[:m.end], "kind: Secret") {
		return
	}
	m.work -= m.end
	within, at, from := -1, 0, 0 // how far data: and the name before are indented
	for line := range strings.Lines(m.s[:m.end]) {
		begin := from
		from += len(line)
		text := strings.TrimRight(line, "\r\n")
		in := len(text) - len(strings.TrimLeft(text, " "))
		key, v, pair := strings.Cut(text[in:], ":")
		v = strings.Trim(v, " \"'")
		switch {
		case key == "data" || key == "stringData":
			within, at = in, len(text)
		case in == len(text) || within < 0:
		case in <= within:
			within = -1
		case in > at: // of a block
			m.hide(begin+in, begin+len(text))
		case pair:
			if at = in; v != "" && v[0] != '|' && v[0] != '>' && !none(v) && !public[foldedWord(key)] {
				end := begin + len(strings.TrimRight(text, " \"'"))
				m.hide(end-len(v), end)
			}
		}
	}
}

// expected is for scripts of expect and its like: what is sent after a password was asked for.
func (m *masker) expected() {
	s := m.s[:m.end]
	if !m.words || !strings.Contains(s, "send") || !strings.Contains(s, "expect") && !strings.Contains(s, "spawn") {
		return
	}
	sent := false
	for i := 0; ; {
		n := strings.Index(s[i:], "send")
		if n < 0 {
			return
		}
		asked := s[max(i, i+n-256) : i+n]
		if m.work -= 8 * len(asked); m.work < 0 {
			m.end = i
			return
		}
		from := i + n + len("send")
		i = from
		again := sent && (containsFold(asked, "retype") || containsFold(asked, "again") || containsFold(asked,
			"confirm") || containsFold(asked, "repeat") || containsFold(asked, "verify"))
		if !again && !containsFold(asked, "assword") && !containsFold(asked, "assphrase") && !containsFold(asked,
			"asscode") {
			continue
		}
		sent = true
		from += len(s[from:]) - len(strings.TrimLeft(s[from:], "lineusr_- (")) // send -- "x", sendline("x")
		from += len(s[from:]) - len(strings.TrimLeft(s[from:], "\"'{\\"))
		to := from
		for to < len(s) && strings.IndexByte("\\\"'\n;", s[to]) < 0 {
			to++
		}
		m.work -= to - i
		if from > 0 && s[from-1] == '{' && to > from && s[to-1] == '}' {
			to--
		}
		if !none(s[from:to]) {
			m.hide(from, to)
		}
	}
}

// cookies hides the values of a=x; b=y.
func (m *masker) cookies(from, to int) {
	for from < to {
		n := strings.IndexByte(m.s[from:to], ';')
		end := to
		if n >= 0 {
			end = from + n
		}
		if eq := strings.IndexByte(m.s[from:end], '='); eq >= 0 {
			v := m.s[from+eq+1 : end]
			if !fewDigits(v) && !none(v) && !(len(v) <= 12 && lettersOnly(v) &&
				meaningOf(m.s[from:from+eq]) == ordinary) {
				m.hide(from+eq+1, end)
			}
		}
		from = end + 1
	}
}
