// SPDX-License-Identifier: Apache-2.0

package mask

import "strings"

// url masks what is secret in the URL whose "://" is at i, but for its query, and says where to go on.
func (m *masker) url(i int) int {
	s := m.s
	begin := i + 3
	end := begin // of the authority
	last := -1   // @
	colon := -1
	for ; end < len(s) && !endsAuthority(s[end]); end++ {
		switch s[end] {
		case '@':
			last = end
		case ':':
			if colon < 0 {
				colon = end
			}
		}
	}
	m.work -= end - begin
	if more := m.rawPassword(begin, end, colon, last); more > last {
		last, end = more, more
		for end < len(s) && !endsAuthority(s[end]) {
			end++
		}
	}
	if last < 0 || last == begin {
		if last < 0 {
			m.hook(begin, end)
			if comma := strings.IndexByte(s[begin:end], ','); comma > 0 {
				return begin + comma // url=https://host,pass=x
			}
		}
		return max(end, begin)
	}
	user := s[begin:last]
	pass := ""
	if colon >= 0 && colon < last {
		user, pass = s[begin:colon], s[colon+1:last]
	}
	switch {
	case pass != "" && !strings.HasPrefix(pass, "x-oauth") && !none(pass) && !urlFiller(pass):
		m.hide(colon+1, last)
	case len(user) >= 20 && random(user), pass == "" && passwordish(user) && !strings.HasSuffix(s[:i], "ssh") &&
		!strings.HasSuffix(s[:i], "ftp") && !strings.HasSuffix(s[:i], "rsync"):
		m.hide(begin, begin+len(user))
	default:
		if from, to := m.token(begin); from < to && to <= last {
			m.hide(from, to)
		}
	}
	m.hook(last+1, end)
	return end
}

func endsAuthority(b byte) bool {
	return b <= ' ' || strings.IndexByte("/?#\"'`<>\\|", b) >= 0
}

// urlFiller is a variable that is not the whole of the password.
func urlFiller(pass string) bool {
	return pass[0] == '$' || pass[0] == '{' || strings.HasPrefix(pass, "%(") || strings.HasPrefix(pass, "<")
}

// rawPassword gives the @ after a password with / or # or ? in it, which a URL must not have and many have; else -1.
func (m *masker) rawPassword(begin, end, colon, last int) int {
	s := m.s
	if end >= len(s) || strings.IndexByte("/?#", s[end]) < 0 || colon < 0 {
		return -1
	}
	if last < 0 {
		if strings.Trim(s[colon+1:end], "0123456789") == "" || strings.IndexByte(s[begin:end], '[') >= 0 {
			return -1 // a port
		}
	} else if host := s[last+1 : end]; strings.ContainsAny(host, ".:") || strings.HasPrefix(host, "localhost") ||
		s[end] == '?' || host == "" {
		return -1
	}
	more := -1
	for i := end; i < len(s) && s[i] > ' ' && strings.IndexByte("\"'`<>\\|", s[i]) < 0 && i-end < 128; i++ {
		if s[i] == '@' {
			more = i
		}
	}
	if more < 0 || last >= 0 && !strings.ContainsAny(s[more+1:min(len(s), more+64)], ".:") {
		return -1
	}
	return more
}

// hooks are hosts, by how they end, of which the path is a secret from the segment after the one that is named.
var hooks = []struct{ host, after string }{
	{"hooks.slack.com", "services"}, {"hooks.slack.com", "workflows"}, {"hooks.slack.com", "triggers"},
	{"webhook.office.com", "webhookb2"}, {"outlook.office.com", "webhook"},
	{"hooks.zapier.com", "catch"}, {"maker.ifttt.com", "key"}, {"events.pagerduty.com", "integration"}, {"feishu.cn",
		"hook"}, {"larksuite.com", "hook"},
	{"infura.io", "v3"}, {"alchemy.com", "v2"}, {"alchemyapi.io", "v2"}, {"hook.make.com", ""}, {"hook.eu1.make.com",
		""}, {"hook.us1.make.com", ""},
	{"hc-ping.com", ""}, {"ntfy.sh", "\x00"}, {"api.telegram.org", "\x00"}, {"quiknode.pro", ""}, {"webhook.site", ""},
	{"hooks.glip.com", "webhook"},
	{"ingest.sentry.io", "\x00"}, {"uptime.betterstack.com", "heartbeat"}, {"nosnch.in", ""}, {"cronitor.link", "p"},
}

// hook masks the path of a webhook: who knows it may use it. The host begins and ends there.
func (m *masker) hook(begin, end int) {
	s := m.s
	if end >= len(s) || s[end] != '/' {
		return
	}
	host := s[begin:end]
	to := end
	for to < len(s) && s[to] > ' ' && strings.IndexByte("?#\"'`<>\\|);,", s[to]) < 0 {
		to++
	}
	m.work -= 4 * (to - end)
	path := s[end:to]
	if strings.HasPrefix(path, "/bot") && digit(path[min(4, len(path)-1)]) { // api.telegram.org/bot123:AAx/
		if colon := strings.IndexByte(path, ':'); colon > 0 && colon < 20 {
			slash := strings.IndexByte(path[colon:], '/')
			if slash < 0 {
				slash = len(path) - colon
			}
			m.hide(end+4, end+colon+slash)
			return
		}
	}
	for n := range hooks {
		h := &hooks[n]
		if !strings.HasSuffix(host, h.host) {
			continue
		}
		from := 1
		if h.after != "" {
			k := strings.Index(path, "/"+h.after+"/")
			if k < 0 {
				continue
			}
			from = k + len(h.after) + 2
		}
		if from < len(path) {
			m.hide(end+from, to)
		}
		return
	}
	// Elsewhere: what is random behind a segment that says so.
	from := 0
	for seg := range strings.SplitSeq(path, "/") {
		from += len(seg) + 1
		if from-1 > len(path) {
			break
		}
		if len(seg) < 3 || len(seg) > 24 {
			continue
		}
		switch foldedWord(seg) {
		case "hook", "hooks", "webhook", "webhooks", "incoming-webhook", "token", "key", "apikey", "secret", "trigger",
			"heartbeat", "reset-password", "verify", "invite", "magic":
			next, _, _ := strings.Cut(path[min(from, len(path)):], "/")
			if strings.Trim(next, "0123456789") == "" { // discord.com/api/webhooks/1/x
				skipped := from + len(next) + 1
				more, _, _ := strings.Cut(path[min(skipped, len(path)):], "/")
				from, next = skipped, more
			}
			if random(next) || uuid(next) && seg != "key" {
				m.hide(end+from, end+from+len(next))
			}
		}
	}
}

// userinfo gives the password of user:password@host without a scheme, whose @ is at i: as drivers of databases have it.
func (m *masker) userinfo(i int) (from, to int) {
	s := m.s
	begin := i
	colon := -1
	m.work -= 32
	for begin > 0 && i-begin < 128 {
		b := s[begin-1]
		if b <= ' ' || strings.IndexByte("\"'`<>(=,;|", b) >= 0 {
			break
		}
		begin--
		if b == ':' {
			colon = begin
		}
	}
	rest := s[i+1:]
	if colon < 0 {
		return 0, 0
	}
	user := s[begin:colon]
	pass := s[colon+1 : i]
	if strings.HasSuffix(user, "thin") || strings.HasSuffix(user, "oci") { // jdbc:oracle:thin:user/password@
		return 0, 0
	}
	if pass == "" || user == "" || pass[0] == '/' || none(pass) || !name(strings.NewReplacer("/", "", "\\",
		"").Replace(user)) {
		return 0, 0
	}
	switch foldedWord(user) {
	case "mailto", "sip", "xmpp", "npm", "acct", "to", "cc", "from", "bcc", "github", "docker", "file", "link",
		"workspace", "pkg", "git", "https", "http", "ssh",
		"author", "co-authored-by", "signed-off-by", "jsr", "gh", "gitlab", "email", "user", "reply-to", "member",
		"serviceaccount", "group", "domain", "principal", "by":
		return 0, 0
	}
	if strings.HasPrefix(rest, "tcp(") || strings.HasPrefix(rest, "unix(") || strings.HasPrefix(rest, "(") ||
		strings.HasPrefix(rest, "//") {
		return colon + 1, i
	}
	host := 0
	dots, nums := 0, 0
	for host < len(rest) && (tokenByte(rest[host]) || rest[host] == '.') {
		switch {
		case rest[host] == '.':
			dots++
		case digit(rest[host]):
			nums++
		}
		host++
	}
	switch {
	case host == 0 || strings.HasPrefix(rest, "sha256"):
		return 0, 0
	case nums+dots == host && dots != 3:
		return 0, 0 // a version
	case digit(rest[0]) && dots != 3:
		return 0, 0
	case host < len(rest) && rest[host] == '/' && lettersOnly(user) && strings.IndexByte(pass, '/') < 0 &&
		strings.IndexByte(user, '.') < 0:
		return colon + 1, i
	case host < len(rest) && rest[host] == ':' && host+1 < len(rest) && digit(rest[host+1]), dots == 3 && nums >= 4,
		host < len(rest) && rest[host] == '/' && dots > 0,
		strings.HasPrefix(rest, "localhost"), dots > 0 && strings.IndexByte(user, '.') < 0 && strings.IndexByte(pass,
			'/') < 0 && passwordish(pass):
		return colon + 1, i
	}
	return 0, 0
}
