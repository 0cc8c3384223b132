// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"path"
	"strings"
)

// Arguments are shown to everyone who may read traces; credentials in them must not be. What is
// masked, everywhere in an argument, so that `sh -c` and JSON are covered too:
//
//	a secret's name, then = or :, then the value    --password=x  GH_TOKEN=x  "api_key": "x"  ?access_token=x
//	an option that is a secret's name, then a value --password x  --token x
//	an authorization header's value                 Authorization: Bearer x
//	the password in a URL                           https://user:x@host
//	user:password after -u, --user, --proxy-user    curl -u user:x
//	the password of sshpass, mysql and the like     sshpass -p x  mysql -px
//	cookies                                         Cookie: x
//	the shapes in tokenShapes                       ghp_x  AKIAx  sk-x
//
// This is for not spreading secrets by accident; whoever wants to hide an argument from it can.
const masked = "****"

// maxSearched is how many bytes of one argument are searched. What comes after them is neither searched
// nor shown. Scripts and patches that agents pass as one argument are far shorter; the kernel takes 128 KiB.
const maxSearched = 64 << 10

// secretNames are ends of names, in lower case with "-" for "_" and ".".
var secretNames = [...]string{
	"password", "passwd", "passphrase", "pass", "secret", "token",
	"cookie",
	"api-key", "apikey", "access-key", "secret-key", "private-key", "account-key", "auth", "authorization", "credential", "credentials",
}

// maxNested is how deep a script within a script's quotes is looked into.
const maxNested = 3

const shortestSecretName = len("pass")

// tokenShapes are how well-known credentials begin, and how many more characters make one.
var tokenShapes = [...]struct {
	prefix string
	least  int
}{
	{"AKIA", 16}, {"ASIA", 16}, // AWS
	{"AIza", 30},                                                                              // Google
	{"ghp_", 16}, {"gho_", 16}, {"ghu_", 16}, {"ghs_", 16}, {"ghr_", 16}, {"github_pat_", 16}, // GitHub
	{"glpat-", 16},                                  // GitLab
	{"sk-", 16}, {"sk_live_", 16}, {"rk_live_", 16}, // OpenAI, Anthropic, Stripe
	{"xoxb-", 10}, {"xoxp-", 10}, {"xoxa-", 10}, {"xapp-", 10}, // Slack
	{"npm_", 20}, {"pypi-", 20}, {"hf_", 20}, {"dop_v1_", 20},
	{"eyJ", 20}, // a JSON Web Token
}

// maskArgs masks in place and says whether it did, and whether it cut an argument.
func maskArgs(args []string) (hidden, cut bool) {
	var o options
	for n, arg := range args {
		from, to := o.word(arg)
		if n == 0 {
			o = options{program: path.Base(arg)}
		}
		if from < to {
			args[n] = arg[:from] + masked + arg[to:]
			hidden = hidden || args[n] != arg
			continue
		}
		out, hid, short := maskText(arg)
		if strings.ContainsAny(out, " \t\n") {
			var more bool
			out, more = maskScript(out, 0)
			hid = hid || more
		}
		args[n] = out
		hidden, cut = hidden || hid, cut || short
	}
	return hidden, cut
}

// options follows the words of one command.
type options struct {
	program string // base name, "" before it is known
	next    expectation
}

type expectation int

const (
	nothing expectation = iota
	aSecret
	userAndSecret
)

// word takes the next word and says which part of it is to be masked: from < to.
func (o *options) word(w string) (from, to int) {
	before := o.next
	o.next = o.expects(w)
	switch {
	case before == aSecret && w != "" && w[0] != '-':
		return 0, len(w)
	case before == userAndSecret && strings.IndexByte(w, ':') >= 0 && !numbers(w):
		return strings.IndexByte(w, ':') + 1, len(w)
	case len(w) > 2 && w[:2] == "-p" && passwordAfterP(o.program):
		return 2, len(w)
	case o.program == "curl" && strings.IndexByte(w, ':') > 0:
		if _, ok := curlUser(w); ok {
			return strings.IndexByte(w, ':') + 1, len(w)
		}
	case o.program == "sshpass" && w != "" && w[0] != '-':
		o.program = path.Base(w) // that it runs
	}
	return 0, 0
}

// passwordAfterP says whether -pX gives a program the password X.
func passwordAfterP(program string) bool {
	switch program {
	case "sshpass", "mysql", "mysqldump", "mysqladmin", "mysqlimport", "mysqlshow", "mariadb", "mariadb-dump", "mariadb-admin":
		return true
	}
	return false
}

// expects says what an option announces for the word after it.
func (o *options) expects(w string) expectation {
	if len(w) < 2 || w[0] != '-' || len(w) > 64 {
		return nothing
	}
	switch w {
	case "-u", "--user", "--proxy-user":
		return userAndSecret
	case "-p":
		if o.program == "sshpass" {
			return aSecret
		}
	case "--pwd":
		return aSecret
	}
	if strings.HasPrefix(w, "--") && endsInSecretName(w[2:]) {
		return aSecret
	}
	if user, ok := curlUser(w); o.program == "curl" && ok && user == "" {
		return userAndSecret
	}
	return nothing
}

// curlUser gives what stands after the u in one word of curl's short options, as in -sSu or -suuser:x.
func curlUser(w string) (user string, ok bool) {
	if len(w) < 2 || w[0] != '-' {
		return "", false
	}
	rest := strings.TrimLeft(w[1:], "#0123468aBfgGiIjJklLMnNOpqRsSvVZ") // options without a value
	return strings.CutPrefix(rest, "u")
}

// maskScript masks what options announce within a text that may be a shell's script: agents run every command as
// `bash -c "…"`. It goes through the words in the way of a shell as far as that matters here. Words in quotes may
// be a script again, down to maxNested.
func maskScript(s string, depth int) (string, bool) {
	var out strings.Builder
	kept := 0
	var o options
	unclosed := false
	for i := 0; i < len(s); {
		switch b := s[i]; {
		case b == ' ' || b == '\t' || b == '\\':
			i++
			continue
		case strings.IndexByte("\n;|&()`", b) >= 0:
			o = options{} // another command
			i++
			continue
		}
		begin, end, next := scriptWord(s, i, &unclosed)
		w := s[begin:end]
		from, to := o.word(w)
		switch {
		case from < to && w[from:to] != masked:
			out.WriteString(s[kept : begin+from])
			out.WriteString(masked)
			kept = begin + to
		case from == to && depth < maxNested && strings.ContainsAny(w, " \t\n"):
			if inner, hid := maskScript(w, depth+1); hid {
				out.WriteString(s[kept:begin])
				out.WriteString(inner)
				kept = end
			}
		}
		if o.program == "" && !introduces(w) {
			o.program = path.Base(w)
		}
		i = next
	}
	if kept == 0 {
		return s, false
	}
	out.WriteString(s[kept:])
	return out.String(), true
}

// scriptWord gives the word that begins at i, without quotes around it, and where to go on. The end of a double quote
// that nothing closes is looked for to the end of s, so only once: that is kept in unclosed.
func scriptWord(s string, i int, unclosed *bool) (begin, end, next int) {
	q := s[i]
	if quoted := q == '"' || q == '\''; quoted && (q != '"' || !*unclosed) {
		for n := i + 1; n < len(s); n++ {
			if s[n] == q {
				return i + 1, n, n + 1
			}
			if s[n] == '\\' && q == '"' {
				n++
			}
		}
		*unclosed = *unclosed || q == '"'
		i++
	} else if quoted {
		i++
	}
	begin = i
	for i < len(s) && strings.IndexByte(" \t\n;|&()`", s[i]) < 0 {
		i++
	}
	// A script in quotes leaves the end of its own quotes.
	return begin, begin + len(strings.TrimRight(s[begin:i], `\"'`)), max(i, begin+1)
}

// introduces is true of words that stand before the program's name.
func introduces(w string) bool {
	switch w {
	case "", "sudo", "env", "exec", "time", "nohup", "command", "if", "then", "else", "do", "while", "until", "!", "{":
		return true
	}
	return strings.IndexByte(w, '=') > 0 || w[0] == '-'
}

// numbers tells docker's `-u 1000:1000` from a password.
func numbers(s string) bool {
	return strings.Trim(s, "0123456789:") == ""
}

// maskText works in one pass and returns s itself when there is nothing to mask or cut. A secret that begins
// within maxSearched is recognised by all of it, and masked, even if it ends beyond.
func maskText(s string) (text string, hidden, cut bool) {
	var out strings.Builder
	end := len(s)
	if end > maxSearched {
		end, cut = runeStart(s, maxSearched), true
	}
	kept := 0 // s up to here is in out
	hide := func(from, to int) {
		out.WriteString(s[kept:from])
		out.WriteString(masked)
		kept = to
	}
	for i := 0; i < end; {
		from, to := 0, 0
		switch b := s[i]; {
		case b == ':' && strings.HasPrefix(s[i:], "://"):
			from, to = urlPassword(s, i+3)
			if from == to {
				i += 3
				continue
			}
		case b == '=' || b == ':':
			from, to = secretValue(s, i)
		case tokenStart(b) && (i == 0 || !tokenByte(s[i-1])):
			from, to = knownToken(s, i)
		}
		if from < to {
			hide(from, to)
			i = to
			continue
		}
		i++
	}
	if kept == 0 {
		return s[:end], false, cut
	}
	out.WriteString(s[min(kept, end):end])
	return out.String(), true, cut
}

// urlPassword gives the password of the user information that begins at i, if there is one.
func urlPassword(s string, i int) (from, to int) {
	colon := -1
	for ; i < len(s); i++ {
		switch b := s[i]; {
		case b == ':' && colon < 0:
			colon = i
		case b == '@':
			if colon < 0 || colon+1 == i {
				return 0, 0
			}
			return colon + 1, i
		case b == '/' || b == '?' || b == '#' || b == '"' || b == '\'' || b <= ' ':
			return 0, 0
		}
	}
	return 0, 0
}

// secretValue gives the value after the sign at i, if the name before it is a secret's.
func secretValue(s string, i int) (from, to int) {
	end := i
	for end > 0 && (s[end-1] == '"' || s[end-1] == '\'' || s[end-1] == '\\' || s[end-1] == ' ') && i-end < 4 {
		end--
	}
	begin := end
	for begin > 0 && end-begin < 64 && nameByte(s[begin-1]) {
		begin--
	}
	name := s[begin:end]
	if !endsInSecretName(name) {
		return 0, 0
	}
	from = i + 1
	for from < len(s) && (s[from] == ' ' || s[from] == '\\') {
		from++
	}
	quote := byte(0)
	if from < len(s) && (s[from] == '"' || s[from] == '\'') {
		quote = s[from]
		from++
	}
	if endsIn(name, "authorization") {
		// The scheme may stay: Bearer, Basic, token.
		word := from
		for word < len(s) && ('a' <= s[word]|0x20 && s[word]|0x20 <= 'z') {
			word++
		}
		if word > from && word < len(s) && s[word] == ' ' {
			from = word + 1
		}
	}
	to = from
	for to < len(s) && !endsValue(s[to], quote) {
		to++
	}
	if endsIn(name, "cookie") {
		// Several of them, up to the end of the header.
		for to < len(s) && strings.IndexByte("\"'\r\n", s[to]) < 0 {
			to++
		}
	}
	return from, to
}

func endsValue(b, quote byte) bool {
	if quote != 0 {
		return b == quote
	}
	switch b {
	case ' ', '\t', '\n', '\r', '&', ';', '|', '"', '\'', ',', '}', ')':
		return true
	}
	return false
}

// knownToken gives the credential of a known shape, or after the word Bearer, that begins at i.
func knownToken(s string, i int) (from, to int) {
	if len(s)-i > 7 && (s[i] == 'B' || s[i] == 'b') && strings.EqualFold(s[i:i+7], "bearer ") {
		to = i + 7
		for to < len(s) && (tokenByte(s[to]) || strings.IndexByte(".~+/=", s[to]) >= 0) {
			to++
		}
		if to-i >= 7+8 {
			return i + 7, to
		}
		return 0, 0
	}
	if i+1 == len(s) || !tokenByte(s[i+1]) {
		return 0, 0 // no shape is that short
	}
	for _, shape := range &tokenShapes {
		if s[i] != shape.prefix[0] || !strings.HasPrefix(s[i:], shape.prefix) {
			continue
		}
		to = i + len(shape.prefix)
		for to < len(s) && (tokenByte(s[to]) || s[to] == '.') {
			to++
		}
		if to-i-len(shape.prefix) >= shape.least {
			return i, to
		}
	}
	return 0, 0
}

func tokenStart(b byte) bool {
	switch b {
	case 'A', 'B', 'b', 'd', 'e', 'g', 'h', 'n', 'p', 'r', 's', 'x':
		return true
	}
	return false
}

func tokenByte(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || b == '_' || b == '-'
}

func nameByte(b byte) bool {
	return tokenByte(b) || b == '.'
}

// endsInSecretName is asked at every = and :, so most names have to be told by their length and last letter.
func endsInSecretName(name string) bool {
	if len(name) < shortestSecretName {
		return false
	}
	last := name[len(name)-1] | 0x20
	for _, secret := range &secretNames {
		if secret[len(secret)-1] == last && endsIn(name, secret) {
			return true
		}
	}
	return false
}

// endsIn compares without regard to case and kind of separator, and does not take the end
// of a longer word: "pass" is the end of DB_PASS, not of bypass.
func endsIn(name, end string) bool {
	if len(name) < len(end) {
		return false
	}
	start := len(name) - len(end)
	for i := 0; i < len(end); i++ {
		b := name[start+i]
		switch {
		case 'A' <= b && b <= 'Z':
			b += 'a' - 'A'
		case b == '_' || b == '.':
			b = '-'
		}
		if b != end[i] {
			return false
		}
	}
	if start == 0 || len(end) > 5 {
		return true // "mypassword" and "authToken" are meant too
	}
	before, first := name[start-1], name[start]
	return !tokenByte(before) || before == '-' || before == '_' || 'A' <= first && first <= 'Z' && 'a' <= before && before <= 'z'
}
