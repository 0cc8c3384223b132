// SPDX-License-Identifier: Apache-2.0

package mask

import (
	"slices"
	"strings"
)

// secretIn gives the part of a value that is a secret by what its name means; from == to if there is none.
// plain is whether the value stands as it is: not in quotes, and where it may be code.
func (m meaning) secretIn(v string, plain bool) (from, to int) {
	if m == ordinary || none(v) || constant(v) || image(v) || plain && (expression(v) || m != aPassword && member(v) ||
		notPasswords[strings.ToLower(strings.TrimRight(v, "!?,;)"))]) {
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
		whole = (!methods[strings.ToLower(head)] || passwordish(rest) || leet(rest)) && !notPasswords[kind] &&
			!fewDigits(v) && !pathLike(v) && !(plain && lettersOnly(v) && strings.HasSuffix(v, "ed"))
	case aPassword:
		whole = !notPasswords[strings.ToLower(v)] && !(fewDigits(v) && len(v) < 3) && !(has(v, '/') && pathLike(v))
	case anAuth:
		if from := afterColon(v); from > 0 {
			return from, len(v)
		}
		if user, secret, ok := strings.Cut(v, "/"); ok && lettersOnly(strings.Trim(user, numerals)) &&
			!has(secret, '/') && (passwordish(secret) || leet(secret) || digits(secret) > 0 && !pathLike(v)) {
			return len(user) + 1, len(v) // neo4j/x
		}
		whole = random(v) || encodedPair(v)
	case aHeader:
		from = len(v) - len(strings.TrimPrefix(v[afterScheme(v):], "token="))
		whole = !none(v[from:]) && !methods[strings.ToLower(v[from:])]
	case aCookie:
		whole = !fewDigits(v) && !pathLike(v) && !methods[strings.ToLower(v)]
	case aPassWhere:
		if rest, ok := strings.CutPrefix(v, "pass:"); ok && !none(rest) {
			return len("pass:"), len(v)
		}
		whole = !has(v, ':') && !methods[strings.ToLower(v)] && !pathLike(v)
	}
	if !whole {
		return 0, 0
	}
	return from, len(v)
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
	word := skip(v, 0, letters+numerals+"-")
	if word > 0 && letter(v[0]) && word < 24 && word < len(v) && v[word] == ' ' {
		return skip(v, word, " ")
	}
	return 0
}

// none is true of what is no secret whatever its name: a variable, a place to be filled in, a reference to where the
// secret is, a pattern.
func none(v string) bool {
	v = strings.Trim(v, " \t\r\n")
	if v == "" || byFirst(v[0], v[1:]) {
		return true
	}
	if has("$%<{@()/^", v[0]) {
		return false
	}
	if redacted[strings.ToLower(v)] || filler(v) || strings.Contains(v, "${{") ||
		strings.HasSuffix(v, "{{") {
		return true
	}
	if scheme := strings.Index(v, "://"); scheme > 0 && name(v[:scheme]) {
		return true // a URL has its own rules
	}
	colon := strings.IndexByte(v, ':')
	return colon > 0 && colon < 16 && references[strings.ToLower(v[:colon])]
}

// byFirst is true of values that are none by how they begin.
func byFirst(first byte, rest string) bool {
	next, last := byte(0), byte(0) // byte 0 is in none of the sets
	if rest != "" {
		next, last = rest[0], rest[len(rest)-1]
	}
	switch first {
	case '`', '[', '\\':
		return true
	case '$':
		return variable(rest)
	case '%':
		return len(rest) < 3 || last == '%' && name(rest[:len(rest)-1]) || next == '('
	case '<':
		return rest == "" || has("( ", next) || has(rest, '>')
	case '{':
		return rest == "" || has("{}\"' :", next) || last == ':' || last == '}' && name(rest[:len(rest)-1])
	case '@':
		return rest == "" || next == '-' || pathLike(rest) || has(rest, '/')
	case ')', '(':
		return len(rest) < 3 || has("[.?", next) || last == ')'
	case '/':
		return rest == "" || has(",'\"/ {", next)
	case '.':
		return has("*+", next) || (letter(next) || next == '_') && name(rest) // a pattern, a jq path
	case '^':
		return strings.IndexByte(rest, '^') > 0
	case '!':
		return next == ' ' || strings.HasPrefix(rest, "vault") || strings.HasPrefix(rest, "Ref") ||
			strings.HasPrefix(rest, "Sub") || strings.HasPrefix(rest, "secret")
	}
	return false
}

// variable says whether what follows a $ is a variable's name or a command: $ecr3t! is a password.
func variable(v string) bool {
	if v == "" || digit(v[0]) {
		return len(v) == 1
	}
	end := span(v, 0, wordByte)
	return has("{(@*#?!", v[0]) || end > 0 && (end == len(v) || !has("!@#%^*+$", v[end]))
}

// filler is what stands where something was: ****, xxxx, ...
func filler(v string) bool {
	return only(v, v[:1]) && has("*xX.-_?#", v[0]) && (len(v) > 1 || v != "x" && v != "X") || only(v, "•")
}

// name is true of what may be a name, indices included.
func name(v string) bool {
	return v != "" && only(v, nameBytes+"[]")
}

// expression is true of code: a call, an element, a member of something.
func expression(v string) bool {
	if strings.HasPrefix(v, "await ") || slices.ContainsFunc(codeVerbs, func(verb string) bool {
		return strings.HasPrefix(v, verb)
	}) {
		return true
	}
	if v == "" || !letter(v[0]) && v[0] != '_' {
		return v != "" && v[0] == '('
	}
	if i := skip(v, 0, letters+numerals+"_.?"); i < len(v) {
		if v[i] == ':' { // lexer:next()
			i = skip(v, i, letters+":_")
		}
		return i < len(v) && has("([", v[i])
	}
	first, _, member := strings.Cut(v, ".")
	return member && (objects[first] || meaningOf(v[strings.LastIndexByte(v, '.')+1:]) != ordinary && digits(v) == 0)
}

// member is true of words with dots between: tls.RequireAnyClientCert.
func member(v string) bool {
	dot := strings.IndexByte(v, '.')
	return dot > 0 && dot+1 < len(v) && len(v) < 64 && only(v, letters+"._")
}

// constant is true of NAMES_LIKE_THIS.
func constant(w string) bool {
	return only(w, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") && meaningOf(w) != ordinary
}

// pathLike is true of files: a password is rarely /run/secrets/x or token.txt.
func pathLike(v string) bool {
	switch {
	case len(v) < 2 || len(v) > 4096:
		return false
	case v[0] == '/', strings.HasPrefix(v, "./"), strings.HasPrefix(v, "../"), strings.HasPrefix(v, "~/"):
		return only(v, pathBytes) && (strings.IndexByte(v[1:], '/') > 0 || v[0] != '/' || !random(v)) &&
			!(len(v) >= 40 && (len(v) == 40 || strings.ContainsAny(v, "+=")) && random(v))
	case len(v) > 2 && letter(v[0]) && v[1] == ':' && has(`\/`, v[2]):
		return true
	}
	dot := strings.LastIndexByte(v, '.')
	return dot > strings.LastIndexByte(v, '/')+1 && extensions[strings.ToLower(v[dot+1:])] && only(v, pathBytes)
}

// image is true of a container's image: packages.example.com/acme/token:2.0.1.
func image(v string) bool {
	dot, slash := strings.IndexByte(v, '.'), strings.IndexByte(v, '/')
	return dot > 0 && slash > dot+2 && letter(v[slash-1]) && only(v, lowers+numerals+"./:-_") && !random(v)
}

// label is true of a text that names a secret, for people: Access token.
func label(v string) bool {
	named := func(w string) bool { return labels[strings.ToLower(strings.Trim(w, "?.!"))] }
	return v != "" && upper(v[0]) && only(v, letters+" ?.!'") && slices.ContainsFunc(strings.Fields(v), named)
}
