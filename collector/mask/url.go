// SPDX-License-Identifier: Apache-2.0

package mask

import "strings"

const (
	endsURL       = "\"'`<>\\|"
	endsAuthority = endsURL + "/?#"
)

// endOf gives the first place from i on with white space or a byte of the set.
func endOf(s string, i int, set string) int {
	for i < len(s) && s[i] > ' ' && !has(set, s[i]) {
		i++
	}
	return i
}

// url masks what is secret in the URL whose "://" is at i, but for its query, and says where to go on.
func (m *masker) url(i int) int {
	s := m.s
	begin := i + len("://")
	end := endOf(s, begin, endsAuthority)
	m.work -= end - begin
	colon := strings.IndexByte(s[begin:end], ':')
	last := strings.LastIndexByte(s[begin:end], '@')
	if more := rawPassword(s[begin:], end-begin, colon, last); more > last {
		last = more
		end = endOf(s, begin+last, endsAuthority)
	}
	if last < 0 {
		m.hook(begin, end)
		if comma := strings.IndexByte(s[begin:end], ','); comma > 0 {
			return begin + comma // url=https://host,pass=x
		}
	}
	if last <= 0 {
		return end
	}
	user, pass := s[begin:begin+last], ""
	if colon >= 0 && colon < last {
		user, pass = user[:colon], user[colon+1:]
	}
	scheme := s[:i]
	switch {
	case pass != "" && !strings.HasPrefix(pass, "x-oauth") && !none(pass) && !urlFiller(pass):
		m.hide(begin+colon+1, begin+last)
	case len(user) >= 20 && random(user), pass == "" && passwordish(user) && !strings.HasSuffix(scheme, "ssh") &&
		!strings.HasSuffix(scheme, "ftp") && !strings.HasSuffix(scheme, "rsync"):
		m.hide(begin, begin+len(user))
	default:
		if from, to := m.token(begin); to <= begin+last {
			m.hide(from, to)
		}
	}
	m.hook(begin+last+1, end)
	return end
}

// urlFiller is a variable that is not the whole of the password.
func urlFiller(pass string) bool {
	return has("${<", pass[0]) || strings.HasPrefix(pass, "%(")
}

// rawPassword gives the @ after a password with / or # or ? in it, which a URL must not have and many have; else -1.
// The authority that s begins with ends at end and has its first : and its last @ there.
func rawPassword(s string, end, colon, last int) int {
	if end >= len(s) || !has("/?#", s[end]) || colon < 0 {
		return -1
	}
	if last < 0 {
		if only(s[colon+1:end], numerals) || has(s[:end], '[') {
			return -1 // a port
		}
	} else if host := s[last+1 : end]; host == "" || s[end] == '?' || strings.ContainsAny(host, ".:") ||
		strings.HasPrefix(host, "localhost") {
		return -1
	}
	more := strings.LastIndexByte(s[:endOf(s[:min(len(s), end+128)], end, endsURL)], '@')
	if more < end || last >= 0 && !strings.ContainsAny(s[more+1:min(len(s), more+64)], ".:") {
		return -1
	}
	return more
}

// hook masks the path of a webhook: who knows it may use it. The host begins and ends there.
func (m *masker) hook(begin, end int) {
	s := m.s
	if end >= len(s) || s[end] != '/' {
		return
	}
	host := s[begin:end]
	to := endOf(s, end, endsURL+"?#);,")
	m.work -= 4 * (to - end)
	path := s[end:to]
	if bot, ok := strings.CutPrefix(path, "/bot"); ok && bot != "" && digit(bot[0]) { // api.telegram.org/bot123:AAx/
		if colon := strings.IndexByte(bot, ':'); colon > 0 && colon < 16 {
			m.hide(to-len(bot), to-len(bot)+until(bot, colon, "/"))
			return
		}
	}
	for _, h := range hooks {
		if !strings.HasSuffix(host, h[0]) {
			continue
		}
		secret, ok := path[1:], true
		if h[1] != "" {
			_, secret, ok = strings.Cut(path, "/"+h[1]+"/")
		}
		if ok {
			m.hide(to-len(secret), to)
			return
		}
	}
	// Elsewhere: what is random behind a segment that says so.
	for rest, more := path, true; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		if !segments[strings.ToLower(segment)] {
			continue
		}
		secret, after, _ := strings.Cut(rest, "/")
		from := to - len(rest)
		if only(secret, numerals) { // discord.com/api/webhooks/1/x
			from = min(to, from+len(secret)+1)
			secret, _, _ = strings.Cut(after, "/")
		}
		if random(secret) || uuid(secret) && segment != "key" {
			m.hide(from, from+len(secret))
		}
	}
}

// userinfo gives the password of user:password@host without a scheme, whose @ is at i: as drivers of databases have it.
func (m *masker) userinfo(i int) (from, to int) {
	s := m.s
	m.work -= 32
	begin := i
	for begin > 0 && i-begin < 128 && s[begin-1] > ' ' && !has("\"'`<>(=,;|", s[begin-1]) {
		begin--
	}
	user, pass, _ := strings.Cut(s[begin:i], ":")
	if pass == "" || user == "" || pass[0] == '/' || none(pass) || !only(user, nameBytes+`[]/\`) ||
		only(user, `/\`) || schemes[strings.ToLower(user)] ||
		strings.HasSuffix(user, "thin") || strings.HasSuffix(user, "oci") { // jdbc:oracle:thin:user/password@
		return 0, 0
	}
	rest := s[i+1:]
	n := 0
	for n < len(rest) && nameByte(rest[n]) {
		n++
	}
	host, dots := rest[:n], strings.Count(rest[:n], ".")
	address := dots == 3 && digits(host) >= 4
	path := !has(pass, '/') && !has(user, '.')
	var after, port byte
	if n < len(rest) {
		after = rest[n]
	}
	if n+1 < len(rest) {
		port = rest[n+1]
	}
	switch {
	case strings.HasPrefix(rest, "tcp("), strings.HasPrefix(rest, "unix("), strings.HasPrefix(rest, "("),
		strings.HasPrefix(rest, "//"):
	case n == 0, strings.HasPrefix(rest, "sha256"), dots != 3 && (digit(rest[0]) || only(host, numerals+".")):
		return 0, 0 // a version
	case after == '/' && (dots > 0 || path && lettersOnly(user)), after == ':' && digit(port), address,
		strings.HasPrefix(rest, "localhost"), dots > 0 && path && passwordish(pass):
	default:
		return 0, 0
	}
	return i - len(pass), i
}
