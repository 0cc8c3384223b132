// SPDX-License-Identifier: Apache-2.0

package mask

import (
	"path"
	"strings"
)

// command follows the words of one command, be they arguments or parts of a script.
type command struct {
	name    string // of the program, its base name; "" before it is known
	tool    *tool  // nil: nothing is known of it
	next    kind   // what the word before announced
	after   kind   // what comes after that
	loose   bool   // the word before is an option of which nothing is known
	means   meaning
	place   int  // of arguments that are no options
	named   bool // the word before is a secret's name: config set x.token VALUE
	setting bool // a word before says that something is set
	secret  bool // a word before says that it is a secret: gh secret set
	login   bool // a word before says that it logs in
	user    int8 // whether there is an option with a user: 0 unknown, 1 yes, -1 no
	reads   bool // standard input is a secret
	over    bool // there are no more options: --
	key     bool // the word before is --key
	seen    bool // so was one before
	weak    bool // the value after the name is one only if it looks like a secret
	account bool // a word before says that it is about users
	quiet   bool // a word before says that nothing is set
	skip    int  // of words between the name and the value
	sure    bool // it is a command, and does not only look so

	args    []string // where the words are arguments, and which this is
	at      int
	inner   bool // they are a script's, within an argument, and where it ends
	end     int
	said    [4]extent // what echo and the like print, for whom it is piped to
	saying  int
	writing bool // to the file that the next word names
}

// use is what is to be done with a word besides what word did.
type use uint8

const (
	anything    use = iota
	consumed        // nothing
	forPeople       // it is a text
	code            // it is a program, but not of a shell
	shellScript     // it is a shell's
)

// run begins a command with its program.
func (c *command) run(w string) {
	name := path.Base(w)
	if cut, ok := strings.CutSuffix(name, ".exe"); ok {
		name = cut
	}
	name = strings.TrimPrefix(name, "-")
	t := tools()[name]
	if t == nil { // python3.11, mysql80
		if cut := strings.TrimRight(name, "0123456789.-"); cut != name && cut != "" {
			t = tools()[cut]
		}
	}
	*c = command{name: name, tool: t, args: c.args, at: c.at, inner: c.inner, end: c.end, said: c.said,
		saying: c.saying, reads: c.reads, sure: c.sure}
}

// word takes the word from begin to end, hides what is secret in it and says what else it may be.
func (c *command) word(m *masker, begin, end int) use {
	w := m.s[begin:end]
	if c.name == "" {
		if w != "" && (c.args != nil || !isAssignment(w)) {
			c.run(w)
		}
		return anything
	}
	next := c.next
	c.next = unknown
	if c.after != unknown {
		c.next, c.after = c.after, unknown
	}
	if next != unknown && (!looksLikeOption(w) || next == people || next == plain && w == "-" || next == secretWord &&
		end-begin > 2 && strings.Trim(w[:2], "-") == "" && random(w)) {
		return c.value(m, next, begin, end)
	}
	if len(w) > 1 && (w[0] == '-' || w[0] == '/' && c.tool != nil && c.tool.slash) && !c.over {
		return c.option(m, begin, end)
	}
	return c.argument(m, begin, end)
}

func isAssignment(w string) bool {
	n := 0
	for n < len(w) && (letter(w[n]) || digit(w[n]) || w[n] == '_') {
		n++
	}
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
		if c.tool == nil || !c.tool.wraps {
			c.over = true
		}
		return consumed
	}
	name := w
	value := -1
	sep := byte('=')
	if w[0] == '/' {
		sep = ':'
	}
	if n := strings.IndexByte(w, sep); n > 0 {
		name, value = w[:n], n+1
	}
	c.named = false
	k := unknown
	if c.tool != nil {
		k = c.tool.option(name)
		c.means = aSecret
		if k == unknown && w[0] == '-' && len(w) > 2 && w[1] != '-' {
			if n, kind := c.short(w); kind != unknown {
				if kind == shift || kind == input || kind == flag {
					return c.value(m, kind, end, end)
				}
				if n == len(w) {
					c.next = kind
					return consumed
				}
				if w[n] == '=' && kind != joined && kind != secretWord {
					n++
				}
				if kind == pairs || kind == unknown {
					return anything
				}
				return c.value(m, kind, begin+n, end)
			}
		}
	}
	if k == unknown {
		k, c.means = c.generic(name, value < 0)
	}
	switch {
	case k == unknown:
		c.loose = value < 0
		return anything
	case k == flag || k == input || k == shift:
		return c.value(m, k, begin, end)
	case value >= 0:
		if k == named || k == joined {
			return anything // text looks at names
		}
		if use := c.value(m, k, begin+value, end); use != consumed || k == userPair || k == guess {
			return use
		}
		return consumed
	case k == joined:
		if len(name) > 2 {
			c.next = likely // mysql --password x means the database x, and is not always meant so
		}
		return consumed
	}
	c.next = k
	return consumed
}

// short gives the option that takes what follows it in a word of short options, -sSuX, and where that begins.
func (c *command) short(w string) (int, kind) {
	n := 1
	t := c.tool
	if t.words {
		// -hp, -p of 7z and rar.
		best, kind := 0, unknown
		for ; t != nil; t = t.parent {
			for _, options := range t.options {
				for option, k := range options {
					if k == joined && len(option) > best && strings.HasPrefix(w, option) {
						best, kind = len(option), k
					}
				}
			}
		}
		return best, kind
	}
	for n < len(w) {
		var option [2]byte
		option[0], option[1] = '-', w[n]
		k := t.option(string(option[:]))
		n++
		switch {
		case k == flag:
			continue
		case k == shift || k == input:
			return n, k
		case k != unknown:
			if k == joined && n == len(w) {
				return n, unknown
			}
			if k == joined && portLike(w[n-1:]) {
				return n, flag
			}
			return n, k
		case strings.IndexByte(t.flags, w[n-1]) < 0:
			return n, unknown
		}
	}
	return n, unknown
}

// portLike is true of words with one dash by mistake: mysqldump -port.
func portLike(w string) bool {
	return w == "port" || w == "protocol" || w == "password" || w == "path"
}

// generic says what an option announces that the table does not have.
func (c *command) generic(name string, alone bool) (kind, meaning) {
	switch name {
	case "-u", "--user", "--proxy-user", "--userpwd", "--basic-auth", "--http-auth", "--credentials", "--creds",
		"--cred", "--login", "--auth-basic", "-user":
		if c.tool != nil && c.tool.looks {
			return plain, ordinary
		}
		return userPair, ordinary
	case "-pw", "-pass", "-pwd":
		return named, aPassword
	case "-p", "-P", "-W", "--p":
		if c.tool != nil && c.tool.looks {
			return unknown, ordinary
		}
		return guess, ordinary
	case "-t", "-k", "-a", "-s", "-x", "-w":
		if c.login || c.tool == nil {
			return likely, ordinary
		}
	case "-H", "--header":
		return header, ordinary
	case "-m", "--message", "--description", "--title", "--comment", "--notes", "--summary", "--prompt":
		return people, ordinary
	case "-n", "--name", "--key", "--param", "--parameter", "--property":
		c.key = name == "--key"
		return nameOf, ordinary
	case "--value", "--values", "--body", "--data", "--content", "--secret-value", "--secret-string", "-v",
		"--plaintext", "-value", "--string-value":
		if c.secret {
			return secretWord, ordinary
		}
	case "--stdin":
		if c.secret || c.login || c.seen || strings.HasSuffix(c.name, "keystore") {
			return input, ordinary
		}
	case "--passin", "--passout":
		return where, ordinary
	case "--password-stdin", "--pass-stdin", "--with-token", "--token-stdin", "--passphrase-stdin", "--passwd-on-stdin",
		"--stdin-password", "--api-key-stdin", "--secret-stdin",
		"--access-token-stdin", "--auth-token-stdin", "--key-stdin", "--password-from-stdin":
		return input, ordinary
	}
	if len(name) < 3 || name[1] != '-' && len(name) < 4 {
		return unknown, ordinary
	}
	means := meaningOf(name)
	switch {
	case means == ordinary:
		return unknown, ordinary
	case alone && asks(name):
		return flag, ordinary
	case name[1] != '-' && means < aSecret && means != anAuth:
		return unknown, ordinary
	}
	return named, means
}

// value takes the value of an option, or an argument of a known kind.
func (c *command) value(m *masker, k kind, from, to int) use {
	from, to = unquoted(m.s, from, to)
	v := m.s[from:to]
	switch k {
	case secretWord, joined, last:
		switch {
		case none(v), pathLike(v), untold[foldedWord(v)], connection(v):
			return anything
		case k == last && !c.isLast(m, to):
			return anything
		}
		m.hide(from, to)
	case two:
		if v == "" || v[0] == '-' {
			return anything
		}
		m.hide(from, to)
		c.next = secretWord
	case then:
		if v != "anonymous" && (v == "" || v[0] != '+') {
			c.next = secretWord
		}
		return consumed
	case valueOf:
		if c.secret {
			return c.value(m, secretWord, from, to)
		}
		return anything
	case acl:
		if v != "" && strings.IndexByte("><#", v[0]) >= 0 {
			m.hide(from+1, to)
		}
	case target:
		if colon := strings.IndexByte(v, ':'); colon > 0 && !none(v[colon+1:]) {
			end := strings.LastIndexByte(v, '@')
			if end < colon {
				end = len(v)
			}
			m.hide(from+colon+1, from+end)
		}
	case named:
		if isAssignment(v) || m.prose && lettersOnly(v) {
			return anything
		}
		if a, b := c.means.secretIn(v, false); a < b {
			m.hide(from+a, from+b)
			return consumed
		}
		if strings.IndexByte(v, '=') > 0 || strings.IndexByte(v, ':') > 0 {
			return anything
		}
	case userPair:
		c.pair(m, from, to)
	case cookies:
		if strings.IndexByte(v, '=') > 0 && !pathLike(v) {
			m.cookies(from, to)
		}
	case where:
		if rest, ok := strings.CutPrefix(v, "pass:"); ok && !none(rest) {
			m.hide(from+len("pass:"), to)
		} else if !ok && strings.IndexByte(v, ':') < 0 && v != "stdin" && !none(v) && !pathLike(v) {
			m.hide(from, to)
		}
	case percent:
		c.behind(m, from, to, '%')
	case comma:
		c.behind(m, from, to, ',')
		if strings.IndexByte(v, ',') < 0 {
			c.pair(m, from, to)
		}
	case slash:
		if slash := strings.IndexByte(v, '/'); slash > 0 && v[0] != '@' && v[0] != '-' {
			last := strings.LastIndexByte(v, '@')
			if strings.HasPrefix(v[slash:], "//") || last < slash {
				last = len(v)
			}
			if strings.IndexByte(v[:slash], '.') < 0 && slash+1 < last && strings.IndexByte(v[slash+1:last], '/') < 0 &&
				strings.IndexByte(v[:slash], '@') < 0 {
				m.hide(from+slash+1, from+last)
			}
		}
	case tail:
		if colon := strings.LastIndexByte(v, ':'); colon >= 0 && strings.IndexByte(v, '/') != 0 && !none(v[colon+1:]) &&
			!pathLike(v[colon+1:]) {
			m.hide(from+colon+1, to)
		}
	case cert:
		if colon := strings.LastIndexByte(v, ':'); colon > 1 && colon+1 < len(v) && strings.IndexByte(v[colon:],
			'/') < 0 && !strings.HasPrefix(v, "pkcs11:") && !none(v[colon+1:]) {
			m.hide(from+colon+1, to)
		}
	case assignment:
		if n := strings.IndexByte(v, '='); n > 0 && v[0] != '-' {
			a, b := unquoted(m.s, from+n+1, to)
			if w := m.s[a:b]; !none(w) && w != "-" && !public[foldedWord(v[:n])] && !fewDigits(w) {
				m.hide(a, b)
			}
		}
	case nameOf:
		if meaningOf(path.Base(v)) >= aSecret {
			c.secret = true
		} else if c.key && (random(v) || passwordish(v)) && c.tool == nil {
			m.hide(from, to)
		}
		return anything
	case likely:
		if !none(v) && !pathLike(v) && (strings.IndexByte(v, '/') < 0 || len(v) >= 32) && (passwordish(v) || random(v) || mixed(v)) {
			m.hide(from, to)
		}
	case guess:
		if c.guess(m, v) {
			m.hide(from, to)
		}
	case people:
		return forPeople
	case program:
		return code
	case script:
		return shellScript
	case plain:
		if m.words || strings.Contains(v, "://") || strings.IndexByte(v, '@') > 0 {
			return anything
		}
	case input:
		c.readsInput(m)
	case shift:
		c.place++
	case pairs, header:
		return anything
	}
	if k == plain || k == flag || k == input || k == shift {
		return consumed
	}
	if len(m.found) == 0 && k != secretWord {
		return anything
	}
	return consumed
}

// public are names in what is kept with secrets that are none.
var public = words("username user name login host hostname port region url uri endpoint email database dbname " +
	"ttl role type env environment zone project account bucket " +
	"server address domain tenant method path owner version id client_id clientid appid app_id access_key_id scope " +
	"issuer audience algorithm algo mode enabled debug")

// unquoted takes quotes away from around a part.
func unquoted(s string, from, to int) (int, int) {
	for from < to && (s[from] == '\\' && from+1 < to && (s[from+1] == '"' || s[from+1] == '\'') || s[from] == '"' ||
		s[from] == '\'') {
		from++
		if s[from-1] == '\\' {
			from++
		}
	}
	for to > from && (s[to-1] == '"' || s[to-1] == '\'') {
		to--
		if to > from && s[to-1] == '\\' {
			to--
		}
	}
	return from, to
}

// connection is true of Server=x;Password=y, which text knows.
func connection(v string) bool {
	semicolon := strings.IndexByte(v, ';')
	return semicolon > 0 && strings.IndexByte(v[:semicolon], '=') > 0 && strings.IndexByte(v[semicolon:], '=') > 0 ||
		v[0] == '{' && strings.IndexByte(v, ':') > 0
}

// isLast says whether nothing follows in the command.
func (c *command) isLast(m *masker, to int) bool {
	if c.args != nil {
		return c.at+1 >= len(c.args)
	}
	rest := strings.TrimLeft(m.s[to:c.end], "\"'\\ ")
	return rest == "" || strings.IndexByte("\n;|&)>", rest[0]) >= 0
}

// pair hides the secret of user:secret.
func (c *command) pair(m *masker, from, to int) {
	v := m.s[from:to]
	colon := strings.IndexByte(v, ':')
	if colon < 0 && c.tool != nil && (passwordish(v) || random(v)) && !pathLike(v) && strings.IndexByte(v, '@') < 0 &&
		m.s[:from] == "" {
		m.hide(from, to)
	}
	if colon < 0 || strings.HasPrefix(v[colon:], "://") || none(v) && v[0] != '{' {
		return
	}
	user, pass := v[:colon], v[colon+1:]
	switch {
	case pass == "":
		if len(user) >= 16 && !none(user) || random(user) {
			m.hide(from, from+colon)
		}
		return
	case none(pass), strings.Trim(v, "0123456789:") == "":
		return
	case c.tool == nil || c.tool.option("-u") != userPair && c.tool.option("-a") != userPair &&
		c.tool.option("--creds") != userPair && c.tool.option("--user") != userPair &&
		c.tool.option("--auth") != userPair:
		if user == pass || strings.Trim(pass, "0123456789") == "" && len(pass) < 6 || strings.IndexByte(user,
			'/') >= 0 || pass[0] == '/' || groups[pass] {
			return
		}
	}
	m.hide(from+colon+1, to)
}

var groups = words("root wheel staff users nogroup nobody docker adm admin daemon www-data sudo node app nginx " +
	"postgres redis games audio video")

// behind hides what follows the sign.
func (c *command) behind(m *masker, from, to int, sign byte) {
	v := m.s[from:to]
	if n := strings.IndexByte(v, sign); n >= 0 && n+1 < len(v) && !none(v[n+1:]) {
		m.hide(from+n+1, to)
	}
}

// guess says whether the value of -p and the like is a secret: if it looks like one, or if there is a user whose it may
// be.
func (c *command) guess(m *masker, v string) bool {
	if none(v) || pathLike(v) || strings.Trim(v, "0123456789") == "" || strings.IndexByte(v, '/') >= 0 ||
		methods[foldedWord(v)] {
		return false
	}
	if passwordish(v) || random(v) || mixed(v) || leet(v) {
		return true
	}
	if strings.ContainsAny(v, ":,= ") {
		return false
	}
	return c.login || c.hasUser(m)
}

// hasUser says whether the command has an option with a user and a value.
func (c *command) hasUser(m *masker) bool {
	if c.user == 0 {
		c.user = -1
		is := func(w string) bool {
			switch w {
			case "-u", "-U", "--user", "--username", "-user", "-username", "--login", "--user-name", "--login-user":
				return true
			}
			return strings.HasPrefix(w, "--user=") || strings.HasPrefix(w, "--username=")
		}
		if c.args != nil {
			for _, w := range c.args[:min(len(c.args), 64)] {
				if is(w) {
					c.user = 1
				}
			}
		} else {
			rest := m.s[c.at:min(m.end, c.at+1024)]
			if n := strings.IndexAny(rest, "\n;|"); n >= 0 {
				rest = rest[:n]
			}
			m.work -= 4 * len(rest)
			for w := range strings.FieldsSeq(rest) {
				if is(w) {
					c.user = 1
				}
			}
		}
	}
	return c.user > 0
}

// argument takes a word that is no option.
func (c *command) argument(m *masker, begin, end int) use {
	w := m.s[begin:end]
	value := c.named
	loose := c.loose
	c.named, c.loose = false, false
	if c.inner && strings.HasPrefix(w, "<<") && !strings.HasPrefix(w, "<<<") && c.reads {
		c.document(m, begin, end)
		return consumed
	}
	if strings.HasPrefix(w, "<<<") {
		if c.reads && end-begin > 3 {
			c.hideSaid(m, begin+3, end)
		} else if c.reads {
			c.next = secretWord
		}
		return anything
	}
	if c.name == "echo" || c.name == "printf" || c.name == "print" || c.name == "yes" {
		if c.inner && w != "" {
			c.says(m, begin, end)
		}
		return forPeople
	}
	if c.skip > 0 {
		c.skip--
		c.named = value
		c.place++
		return anything
	}
	if value && c.weak && !passwordish(strings.TrimSuffix(w, "/")) && !random(w) {
		value = false
	}
	if value && w != "" && !constant(w) && !(c.inner && (expression(strings.TrimRight(w, ",;)")) ||
		end < c.end && m.s[end] == '(')) {
		if !verbs[foldedWord(w)] && w[0] != '<' && w[0] != '>' {
			if from, to := c.means.secretIn(w, false); from < to && strings.IndexByte(w, '=') < 0 && (c.setting ||
				c.means != aSecret || digits(w) > 0 || len(w) > 5) {
				m.hide(begin+from, begin+to)
				c.place++
				return consumed
			}
		}
	}
	t := c.tool
	if t != nil {
		if t.wraps {
			if next := tools()[path.Base(w)]; next != nil && path.Base(w) != c.name || t == tools()["sudo"] ||
				t == tools()["env"] && !isAssignment(w) || t == tools()["nohup"] {
				if !isAssignment(w) && strings.IndexByte(w, ' ') < 0 {
					c.run(w)
					if c.tool != nil && c.tool.reads {
						c.readsInput(m)
					}
					return anything
				}
			}
		}
		if sub := t.subs[w]; sub != nil {
			c.tool = sub
			c.place = 0
			if sub.reads {
				c.readsInput(m)
			}
			c.notice(w)
			return anything
		}
		if k := t.option(w); k != unknown {
			c.next = k
			return anything
		}

		k := t.every
		if c.place < len(t.args) && t.args[c.place] != unknown {
			k = t.args[c.place]
		}
		c.place++
		if k != unknown {
			if k == named {
				c.means = aSecret
			}
			use := c.value(m, k, begin, end)
			c.notice(w)
			if k == pairs {
				c.nextIsNamed(w)
			}
			return use
		}
		if t.looks {
			return anything
		}
	}
	if strings.HasSuffix(c.name, ".py") && strings.IndexByte(w, ':') > 0 && (strings.IndexByte(w, '@') > 0 ||
		strings.IndexByte(w, '/') > 0) && !strings.Contains(w, "://") && !pathLike(w) {
		return c.value(m, target, begin, end)
	}
	if c.secret && c.setting && c.tool == nil && isAssignment(w) {
		return c.value(m, assignment, begin, end)
	}
	if !loose && (c.login && (random(w) || passwordish(w)) || c.account && (passwordish(w) || leet(w))) &&
		!pathLike(w) && !none(w) && strings.IndexByte(w, '@') < 0 && strings.IndexByte(w, '=') < 0 {
		m.hide(begin, end)
		return consumed
	}
	c.notice(w)
	c.nextIsNamed(w)
	return anything
}

// name_ looks whether the word is a secret's name, the value of which the next word may be.
func (c *command) nextIsNamed(w string) {
	if c.args == nil {
		w = w[strings.LastIndexByte(w, '/')+1:] // s/x/requirepass y/
	}
	if strings.HasPrefix(w, "http-basic.") {
		c.named, c.means, c.skip, c.weak = true, aPassword, 1, false
		return
	}
	if w == "" || len(w) > longestName || w[0] == '.' || strings.IndexByte(w, '/') >= 0 && !strings.HasPrefix(w,
		"//") || strings.Trim(w, nameBytes) != "" || pathLike(w) {
		return
	}
	if strings.Count(w, ":") > 1 && !c.setting {
		return // session:1:token
	}
	means := meaningOf(w)
	c.weak = asks(w) || means == aCookie || w == "secret" || w == "credential" || w == "credentials" || w == "creds" ||
		c.quiet && !c.setting || c.args == nil && (!c.sure || c.tool == nil)
	switch {
	case means == ordinary || means == anAuth && !c.setting:
		return
	case c.setting, strings.ContainsAny(w, "-_.:"), namesOfSecrets[foldedWord(w)]:
		c.named, c.means, c.seen = true, means, true
	}
}

const nameBytes = letters + "0123456789_-.:/"

// namesOfSecrets announce a value where they stand alone; token and secret are as often what a command is about.
var namesOfSecrets = words("password passphrase passcode apikey authtoken accesstoken authkey psk pin " +
	"requirepass masterauth secretkey accesskey privatekey")

// constant is true of NAMES_LIKE_THIS.
func constant(w string) bool {
	return strings.Trim(w, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") == "" && meaningOf(w) != ordinary
}

// notice looks what an argument says of the ones after it.
func (c *command) notice(w string) {
	switch w {
	case "set", "put", "add", "configure", "config", "setx", "set-config", "--set", "store", "update", "write",
		"env:set", "config:set", "secrets:set", "create", "CONFIG", "SET":
		c.setting = true
	case "secret", "secrets", "keyvault", "secretsmanager", "user-secrets", "vault", "variable":
		c.secret = true
	case "secret:create", "secrets:create":
		c.secret, c.setting = true, true
	case "user", "users", "account", "accounts", "register", "passwd", "adduser", "add_user", "add-user", "useradd",
		"signup", "oath":
		c.account = true
	case "install", "i", "uninstall", "remove", "require", "upgrade", "search", "show", "info", "run", "test", "build",
		"list", "get", "describe", "delete", "ls", "rm", "view", "exec", "start",
		"stop", "restart", "status", "logs", "log", "cat", "edit", "open", "diff", "grep", "find", "rename", "inspect",
		"tag", "push", "pull", "unset", "init", "new", "generate", "lint", "check":
		c.quiet = true
	case "login", "signin", "auth", "authenticate", "logon", "connect", "log-in":
		c.login = true
	}
}

// verbs follow names of secrets in commands: password reset, api-key list.
var verbs = words("create list ls delete rm remove get show set add update rotate revoke reset renew generate " +
	"gen new verify describe enable disable change export import info " +
	"help edit read write put lookup init view status refresh expire regenerate check test hash encrypt decrypt " +
	"validate copy store unset clear print decode encode inspect " +
	"manager policy policies file files name names id ids and or is for from to the in of on with type value " +
	"values field")

// says takes a word that echo prints, and where to.
func (c *command) says(m *masker, begin, end int) {
	w := m.s[begin:end]
	if strings.Trim(w, "0123456789>") == "" && strings.IndexByte(w, '>') >= 0 {
		c.writing = true
		return
	}
	if file, ok := strings.CutPrefix(strings.TrimLeft(w, "12&"), ">"); ok || c.writing {
		if !ok {
			file = w
		}
		c.writing = false
		base := path.Base(strings.TrimLeft(file, "> "))
		if cut := strings.LastIndexByte(base, '.'); cut > 0 {
			if ext := base[cut+1:]; ext != "auth" && meaningOf(ext) == ordinary {
				base = base[:cut]
			}
		}
		if meaningOf(base) == ordinary {
			return
		}
		for _, x := range c.said[:c.saying] {
			said := m.s[x.from:x.to]
			if strings.IndexByte(said, ' ') < 0 && !strings.Contains(said, `\n`) {
				if strings.Count(said, ":") > 1 { // ~/.pgpass
					x.from += strings.LastIndexByte(said, ':') + 1
				}
				c.hideSaid(m, x.from, x.to)
				continue
			}
			for from := x.from; from < x.to; {
				to := from
				for to < x.to && m.s[to] > ' ' && m.s[to] != '\\' {
					to++
				}
				if v := m.s[from:to]; passwordish(v) || random(v) {
					m.hide(from, to)
				}
				from = to + 1
				if from <= x.to && m.s[from-1] == '\\' {
					from++
				}
			}
		}
		return
	}
	if c.saying < len(c.said) {
		c.said[c.saying] = extent{begin, end}
		c.saying++
	}
}

// document hides the lines of a here-document, the sign of which is from begin to end.
func (c *command) document(m *masker, begin, end int) {
	word := strings.Trim(m.s[begin+2:end], `-"'\`)
	if word == "" {
		return
	}
	at := strings.IndexByte(m.s[end:c.end], '\n')
	if at < 0 {
		return
	}
	for from := end + at + 1; from < c.end && m.work > 0; {
		to := from
		for to < c.end && m.s[to] != '\n' {
			to++
		}
		if strings.TrimSpace(m.s[from:to]) == word {
			return
		}
		c.hideSaid(m, from, to)
		m.work -= to - from + 64
		from = to + 1
	}
}

// readsInput is for an option that says that standard input is a secret: what echo printed was one.
func (c *command) readsInput(m *masker) {
	c.reads = true
	for _, x := range c.said[:c.saying] {
		c.hideSaid(m, x.from, x.to)
	}
	c.saying = 0
}

func (c *command) hideSaid(m *masker, from, to int) {
	v := strings.Trim(m.s[from:to], `"'\`)
	if v == "" || v[0] == '%' || v[0] == '-' || none(v) {
		return
	}
	if (c.name == "chpasswd" || c.name == "base64") && afterColon(v) > 0 {
		from += strings.IndexByte(m.s[from:to], ':') + 1
	}
	m.hide(from, to)
}
