// SPDX-License-Identifier: Apache-2.0

package mask

import (
	"encoding/base64"
	"strings"
)

// secretIn gives the part of a value that is a secret by what its name means; from == to if there is none.
// plain is whether the value stands as it is: not in quotes, and where it may be code.
func (m meaning) secretIn(v string, plain bool) (from, to int) {
	if m == ordinary || none(v) || constant(v) || image(v) ||
		plain && untold[foldedWord(strings.TrimRight(v, "!?,;)"))] || plain && (expression(v) || m != aPassword && member(v)) {
		return 0, 0
	}
	whole := true
	switch m {
	case aKey:
		whole = random(v) || long(v) || mixed(v) && !strings.ContainsAny(v, "-._~/")
	case aCode:
		whole = digits(v) >= 4 && len(v) <= 10 || random(v) || passwordish(v) || uuid(v)
	case aSecret:
		head, rest, _ := strings.Cut(v, ":")
		kind, _, _ := strings.Cut(v, "/")
		whole = (!methods[foldedWord(head)] || passwordish(rest) || leet(rest)) && !untold[kind] && !fewDigits(v) && !pathLike(v) && !(plain && lettersOnly(v) &&
			strings.HasSuffix(v, "ed"))
	case aPassword:
		whole = !untold[foldedWord(v)] && !(fewDigits(v) && len(v) < 3) &&
			!(strings.IndexByte(v, '/') >= 0 && pathLike(v))
	case anAuth:
		if from := afterColon(v); from > 0 {
			return from, len(v)
		}
		if user, secret, ok := strings.Cut(v, "/"); ok && lettersOnly(strings.Trim(user, "0123456789")) &&
			strings.IndexByte(secret, '/') < 0 && (passwordish(secret) || leet(secret) || digits(secret) > 0 &&
			!pathLike(v)) {
			return len(user) + 1, len(v) // neo4j/x
		}
		whole = random(v) || encodedPair(v)
	case aHeader:
		from = afterScheme(v)
		if strings.HasPrefix(v[from:], "token=") {
			from += len("token=")
		}
		if none(v[from:]) || methods[foldedWord(v[from:])] {
			return 0, 0
		}
		return from, len(v)
	case aCookie:
		whole = !fewDigits(v) && !pathLike(v) && !methods[foldedWord(v)]
	case aPassWhere:
		if rest, ok := strings.CutPrefix(v, "pass:"); ok && !none(rest) {
			return len("pass:"), len(v)
		}
		whole = strings.IndexByte(v, ':') < 0 && !methods[foldedWord(v)] && !pathLike(v)
	}
	if !whole {
		return 0, 0
	}
	return 0, len(v)
}

// afterColon gives where the secret of user:secret begins, 0 if v is no such pair.
func afterColon(v string) int {
	colon := strings.IndexByte(v, ':')
	if colon < 1 || colon+1 == len(v) || strings.HasPrefix(v[colon:], "://") || none(v[colon+1:]) {
		return 0
	}
	return colon + 1
}

// afterScheme gives where the credentials of an authorization header begin: after Bearer, Basic, token.
func afterScheme(v string) int {
	word := 0
	for word < len(v) && (letter(v[word]) || word > 0 && (v[word] == '-' || digit(v[word]))) {
		word++
	}
	if word > 0 && word < 24 && word < len(v) && v[word] == ' ' {
		for word < len(v) && v[word] == ' ' {
			word++
		}
		return word
	}
	return 0
}

// none is true of what is no secret whatever its name: a variable, a place to be filled in, a reference to where the
// secret is, a pattern.
func none(v string) bool {
	v = strings.Trim(v, " \t\r\n")
	if v == "" {
		return true
	}
	switch v[0] {
	case '$':
		return variable(v[1:])
	case '`':
		return true
	case '%':
		return len(v) < 4 || len(v) > 2 && v[len(v)-1] == '%' && name(v[1:len(v)-1]) || v[1] == '('
	case '<':
		return strings.IndexByte(v, '>') > 0 || v[1:] == "" || v[1] == '(' || v[1] == ' '
	case '{':
		return len(v) < 2 || v[1] == '{' || v[len(v)-1] == '}' && name(v[1:len(v)-1]) || v[1] == '}' || v[len(v)-1] == ':' ||
			strings.IndexByte("\"' :", v[1]) >= 0
	case '[':
		return true
	case '@':
		return len(v) == 1 || v[1] == '-' || pathLike(v[1:]) || strings.IndexByte(v[1:], '/') >= 0
	case ')', '(':
		return len(v) < 4 || v[1] == '[' || v[1] == '.' || v[1] == '?' || v[len(v)-1] == ')'
	case '/':
		return len(v) == 1 || strings.IndexByte(",'\"/ {", v[1]) >= 0
	case '.':
		if len(v) > 1 && (v[1] == '*' || v[1] == '+') {
			return true // a pattern
		}
		if len(v) > 1 && (letter(v[1]) || v[1] == '_') && name(v[1:]) {
			return true // a jq path
		}
	case '\\':
		return true
	case '^':
		return strings.IndexByte(v[1:], '^') > 0
	case '!':
		if len(v) > 1 && v[1] == ' ' || strings.HasPrefix(v, "!vault") || strings.HasPrefix(v, "!Ref") ||
			strings.HasPrefix(v, "!Sub") || strings.HasPrefix(v, "!secret") {
			return true
		}
	}
	switch foldedWord(v) {
	case "redacted", "masked", "hidden", "removed", "censored", "scrubbed", "sanitized", "filtered":
		return true
	}
	if filler(v) || strings.Contains(v, "${{") || strings.HasSuffix(v, "{{") {
		return true
	}
	if scheme := strings.Index(v, "://"); scheme > 0 && name(v[:scheme]) {
		return true // a URL has its own rules
	}
	if colon := strings.IndexByte(v, ':'); colon > 0 && colon < 16 {
		switch foldedWord(v[:colon]) {
		case "env", "file", "fd", "arn", "op", "ref+vault", "secretsmanager", "ssm", "keyring", "prompt", "stdin",
			"sops", "fileb", "secretref", "vaultref", "keyvaultref", "secret-ref":
			return true
		}
	}
	return false
}

// variable says whether what follows a $ is a variable's name or a command: $ecr3t! is a password.
func variable(v string) bool {
	if v == "" {
		return false
	}
	switch v[0] {
	case '{', '(', '@', '*', '#', '?', '!':
		return true
	case '1', '2', '3', '4', '5', '6', '7', '8', '9', '0':
		return len(v) == 1
	}
	i := 0
	for i < len(v) && (letter(v[i]) || digit(v[i]) || v[i] == '_') {
		i++
	}
	if i == 0 {
		return false
	}
	if i < len(v) && strings.IndexByte("!@#%^*+$", v[i]) >= 0 {
		return false
	}
	return true
}

// filler is what stands where something was: ****, xxxx, ...
func filler(v string) bool {
	rest := strings.Trim(v, string(v[0]))
	return rest == "" && strings.IndexByte("*xX.-_?#", v[0]) >= 0 && (len(v) > 1 || v != "x" && v != "X") ||
		strings.Trim(v, "•") == ""
}

func name(v string) bool {
	for i := 0; i < len(v); i++ {
		if !nameByte(v[i]) && strings.IndexByte("[]", v[i]) < 0 {
			return false
		}
	}
	return v != ""
}

// untold are words that are no password.
var untold = words("none empty missing invalid null nil true false undefined prompt ask stdin required optional string str bytes bool " +
	"boolean interactive no yes " +
	"all any range await yield new lambda not must is are for and or the to in of if when from with type")

// methods are words that are no secret, but say how there is one, or what kind.
var methods = words("none null nil true false undefined prompt ask stdin required require optional string str " +
	"bytes bool boolean interactive no yes on off " +
	"auto always never preferred default enabled disabled enable disable basic digest bearer ntlm negotiate " +
	"kerberos gssapi anonymous any all empty " +
	"int integer text number object float env file keyring keychain plain md5 sha1 sha256 sha512 trust peer ident " +
	"jwt oauth oauth2 oidc saml ldap mfa " +
	"token tokens password passwords secret secrets key keys opaque generic tls not must is are for and or the to " +
	"in of if when from with type id value name " +
	"read write admin refresh reset create list get delete rotate revoke verify validate show lookup new add " +
	"remove update set ls rm describe generate " +
	"renew export import info help edit put init view status expire regenerate unused missing invalid expired " +
	"valid required session-cookie user public private " +
	"range await yield lambda simple lax strict secure httponly local external internal managed manual automatic " +
	"inherit system service workload iam aws azure gcp github gitlab")

func words(list string) map[string]bool {
	set := map[string]bool{}
	for w := range strings.FieldsSeq(list) {
		set[w] = true
	}
	return set
}

// expression is true of code: a call, an element, a member of something.
func expression(v string) bool {
	for _, verb := range [...]string{"Get-", "New-", "ConvertTo-", "Read-", "Import-", "await "} {
		if strings.HasPrefix(v, verb) {
			return true
		}
	}
	i := 0
	dots := 0
	for i < len(v) && (letter(v[i]) || v[i] == '_' || i > 0 && (digit(v[i]) || v[i] == '.' || v[i] == '?')) {
		if v[i] == '.' {
			dots++
		}
		i++
	}
	if i == 0 {
		return v != "" && v[0] == '('
	}
	if i < len(v) {
		if v[i] == ':' { // lexer:next()
			i += len(v[i:]) - len(strings.TrimLeft(v[i:], letters+":_"))
		}
		return i < len(v) && (v[i] == '(' || v[i] == '[')
	}
	if dots == 0 {
		return false
	}
	last := v[strings.LastIndexByte(v, '.')+1:]
	switch first, _, _ := strings.Cut(v, "."); first {
	case "self", "this", "$_", "results", "response", "res", "result", "obj", "auth", "args", "config", "cfg", "opts",
		"options", "os", "process", "env", "settings", "sys", "req", "request", "data", "ctx", "user",
		"var", "local", "module", "secrets", "params", "c", "s", "r", "flags", "conf", "app", "import", "System",
		"Environment", "context", "credentials", "creds":
		return true
	}
	return meaningOf(last) != ordinary && digits(v) == 0
}

// member is true of words with dots between: tls.RequireAnyClientCert.
func member(v string) bool {
	dot := strings.IndexByte(v, '.')
	return dot > 0 && dot+1 < len(v) && len(v) < 64 && digits(v) == 0 && strings.Trim(v, letters+"._") == ""
}

const lowers = "abcdefghijklmnopqrstuvwxyz"

const letters = lowers + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

// pathLike is true of files: a password is rarely /run/secrets/x or token.txt.
func pathLike(v string) bool {
	switch {
	case len(v) < 2 || len(v) > 4096:
		return false
	case strings.HasPrefix(v, "/") || strings.HasPrefix(v, "./") || strings.HasPrefix(v, "../") || strings.HasPrefix(v,
		"~/"):
		return strings.Trim(v, pathBytes) == "" && (strings.IndexByte(v[1:], '/') > 0 || v[0] != '/' || !random(v)) &&
			!(len(v) >= 40 && (len(v) == 40 || strings.ContainsAny(v, "+=")) && random(v))
	case len(v) > 2 && letter(v[0]) && v[1] == ':' && (v[2] == '\\' || v[2] == '/'):
		return true
	}
	slash := strings.LastIndexByte(v, '/')
	dot := strings.LastIndexByte(v, '.')
	if dot > slash+1 && dot+1 < len(v) && extensions[foldedWord(v[dot+1:])] {
		return strings.Trim(v, pathBytes) == ""
	}
	return false
}

const pathBytes = letters + "0123456789/._-~+@,=%$"

var extensions = words("json pem txt yaml yml env key crt cer ini cfg toml conf p12 pfx jks p8 pub asc gpg der " +
	"jwt xml properties keystore kdbx ppk " +
	"cred creds token passwd pass secret out log md sh py js ts go rs java rb enc age csv sql html htm dat bin " +
	"tfvars keytab jar pk8 netrc")

// image is true of a container's image: ghcr.io/acme/token:2.0.1.
func image(v string) bool {
	dot, slash := strings.IndexByte(v, '.'), strings.IndexByte(v, '/')
	return dot > 0 && slash > dot+2 && letter(v[slash-1]) && strings.Trim(v, lowers+"0123456789./:-_") == "" && !random(v)
}

// random is true of what nobody has as a name or a word: changes between letters, digits and cases, or much of hex.
func random(v string) bool {
	if len(v) < 16 || uuid(v) {
		return false
	}
	changes, alpha, nums, other := 0, 0, 0, 0
	hex := true
	var kind, last byte
	for i := 0; i < len(v) && i < 256; i++ {
		b := v[i]
		switch {
		case digit(b):
			nums++
			kind = 'n'
		case lower(b):
			alpha++
			kind = 'l'
			hex = hex && b <= 'f'
		case upper(b):
			alpha++
			kind = 'u'
			hex = hex && b <= 'F'
		case strings.IndexByte("+/=_-.~!%:|*$@", b) >= 0:
			other++
			kind = last
			hex = false
		default:
			return false
		}
		if last != 0 && kind != last {
			changes++
		}
		last = kind
	}
	n := alpha + nums + other
	switch {
	case hex:
		return nums >= 3 && alpha >= 2 && len(v) >= 20 || len(v) >= 32 && alpha > 0
	case other*5 > n:
		return false // words-with-dashes, paths
	}
	return changes*3 >= n && alpha >= 4
}

// long is true of letters and digits in a row, longer than words are.
func long(v string) bool {
	for i := 0; i < len(v); i++ {
		if !digit(v[i]) && !lower(v[i]) {
			return false
		}
	}
	return len(v) >= 24
}

// uuid is true of 8-4-4-4-12.
func uuid(v string) bool {
	if len(v) != 36 {
		return false
	}
	for i := 0; i < len(v); i++ {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if v[i] != '-' {
				return false
			}
		} else if !digit(v[i]) && !(letter(v[i]) && v[i]|0x20 <= 'f') {
			return false
		}
	}
	return true
}

// passwordish is true of what only a password looks like, of six to sixty-four characters: signs between letters and
// digits, or a word that says so: s3cr3t, P@ssw0rd.
func passwordish(v string) bool {
	if len(v) < 6 || len(v) > 64 || pathLike(v) || none(v) || strings.IndexByte(v, ' ') >= 0 {
		return false
	}
	var ups, lows, nums, signs int
	var plain [64]byte
	for i := 0; i < len(v); i++ {
		b := v[i]
		switch {
		case digit(b):
			nums++
		case lower(b):
			lows++
		case upper(b):
			ups++
			b |= 0x20
		case strings.IndexByte("!@#$%^&*?+", b) >= 0:
			signs++
		case b == '/' || b == ',' || b == ':' || b == '=':
			return false
		}
		if at := strings.IndexByte("013457@$!", b); at >= 0 {
			b = "oleasTasi"[at] | 0x20
		}
		plain[i] = b
	}
	if signs > 0 && nums > 0 && lows+ups > 2 {
		return true
	}
	if signs+nums == 0 {
		return false
	}
	flat := string(plain[:len(v)])
	for _, w := range [...]string{"passw", "secret", "hunter", "letmein", "changeme", "qwert", "sword", "pass"} {
		if strings.Contains(flat, w) {
			return true
		}
	}
	return ups > 0 && lows > 0 && nums > 0 && strings.IndexByte(v, '.') < 0 && strings.IndexByte(v, '-') < 0
}

// leet is true of words with digits for letters: m4tr1x.
func leet(v string) bool {
	if len(v) < 5 || len(v) > 64 {
		return false
	}
	found := false
	for i := 0; i < len(v); i++ {
		switch {
		case !letter(v[i]) && !digit(v[i]) && strings.IndexByte("!@#$%^&*+", v[i]) < 0:
			return false
		case i > 0 && i+1 < len(v) && strings.IndexByte("013457", v[i]) >= 0 && letter(v[i-1]) && letter(v[i+1]):
			found = true
		}
	}
	return found
}

// mixed is true of what has both cases and digits in turn, as tokens have that are too short to be random.
func mixed(v string) bool {
	if len(v) < 12 || pathLike(v) {
		return false
	}
	ups, lows, nums := 0, 0, 0
	for i := 0; i < len(v); i++ {
		switch {
		case upper(v[i]):
			ups++
		case lower(v[i]):
			lows++
		case digit(v[i]):
			nums++
		case strings.IndexByte("._-~+/=", v[i]) < 0:
			return false
		}
	}
	return ups > 1 && lows > 1 && nums > 1
}

func digits(v string) int {
	n := 0
	for i := 0; i < len(v); i++ {
		if digit(v[i]) {
			n++
		}
	}
	return n
}

// fewDigits is true of numbers that are too short for a secret.
func fewDigits(v string) bool {
	return len(v) <= 3 && digits(v) == len(v)
}

// encodedPair is true of user:secret in base64.
func encodedPair(v string) bool {
	if len(v) < 8 || len(v) > 512 {
		return false
	}
	var room [384]byte
	trimmed := strings.TrimRight(v, "=")
	n, err := base64.RawStdEncoding.Decode(room[:], []byte(trimmed))
	if err != nil {
		return false
	}
	colon := false
	for _, b := range room[:n] {
		if b < ' ' || b > '~' {
			return false
		}
		colon = colon || b == ':'
	}
	return colon
}
