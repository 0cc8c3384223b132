// SPDX-License-Identifier: Apache-2.0

package mask

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// shape is how a well-known credential looks: how it begins, how many more characters of tokens make one at least, and
// which others it has. Rules as gitleaks has them would say the same in regular expressions, which take hundreds of
// times as long: too long for every exec.
type shape struct {
	prefix string
	least  int
	also   string // bytes besides those of tokens
	strict bool   // words may begin like this, too: what follows must have digits or both cases
}

//go:embed shapes.txt
var shapeTable string

// shapes by their first byte.
var shapes = func() (table [256][]shape) {
	for fields := range rows(shapeTable) {
		number, strict := strings.CutSuffix(fields[0], "!")
		least, err := strconv.Atoi(number)
		if err != nil {
			panic(fmt.Sprintf("shapes.txt: %q", fields))
		}
		also := strings.TrimPrefix(fields[1], "-")
		for _, p := range fields[2:] {
			table[p[0]] = append(table[p[0]], shape{p, least, also, strict})
		}
	}
	return table
}()

// token gives the credential of a known shape, or after Bearer and Basic, that begins at i.
func (m *masker) token(i int) (from, to int) {
	s := m.s
	switch s[i] {
	case 'B', 'b':
		if to := i + len("bearer "); len(s) > to && (strings.EqualFold(s[i:to], "bearer ")) {
			return m.schemed(m.joint(to))
		}
		if to := i + len("basic "); len(s) > to && (strings.EqualFold(s[i:to], "basic ")) {
			from, end := m.schemed(m.joint(to))
			if from < end && encodedPair(s[from:end]) {
				return from, end
			}
			return 0, 0
		}
	}
	for n := range shapes[s[i]] {
		p := &shapes[s[i]][n]
		if len(s)-i < len(p.prefix)+p.least || s[i+1] != p.prefix[1] || !strings.HasPrefix(s[i:], p.prefix) {
			continue
		}
		begin := i + len(p.prefix)
		to := begin
		for to < len(s) && (tokenByte(s[to]) || has(p.also, s[to])) {
			to++
		}
		m.work -= to - begin
		if to-begin >= p.least && (!p.strict || drawn(s[begin:to])) && p.fits(s[i:to]) {
			if to < len(s) && s[to] == ':' { // AKIAx:secret
				if _, end := m.schemed(to + 1); random(s[min(to+1, end):end]) {
					to = end
				}
			}
			return i, to
		}
	}
	return 0, 0
}

// fits is true if a token has what its shape asks besides length and bytes: two begin like much that is no secret.
func (p *shape) fits(token string) bool {
	switch p.prefix {
	case "s.":
		return len(token) == len("s.")+24 && digits(token) > 3
	case "LS0tLS1CRUdJTi": // -----BEGIN …: of a key, not of a certificate
		var head [48]byte
		n, _ := base64.StdEncoding.Decode(head[:], []byte(token[:min(len(token), 64)])) // up to what is no base64
		return bytes.Contains(head[:n], []byte("PRIVATE"))
	}
	return true
}

// tokens hides the credentials of known shapes, wherever they stand.
func (m *masker) tokens() {
	for i := 0; i < m.end; i++ {
		if len(shapes[m.s[i]]) > 0 && (i == 0 || !tokenByte(m.s[i-1])) && m.work >= 0 {
			if from, to := m.token(i); from < to {
				if !strings.HasPrefix(m.s[i:], "eyJ") || strings.IndexByte(m.s[from:to], '.') > 0 {
					m.hide(from, to) // a JSON Web Token, not where a list goes on
				}
				i = to - 1
			}
		}
	}
}

// schemed gives the credentials that begin at from, after the name of their scheme.
func (m *masker) schemed(from int) (int, int) {
	to := skip(m.s, from, letters+numerals+"_-.~+/=:|")
	m.work -= to - from
	if to-from < 8 || digits(m.s[from:to]) == 0 && !random(m.s[from:to]) || pathLike(m.s[from:to]) {
		return 0, 0
	}
	return from, to
}

// pem gives what stands between the lines of a private key that begins at i.
func (m *masker) pem(i int) (from, to int) {
	s := m.s
	head := s[i:min(len(s), i+64)]
	dashes := strings.Index(head[5:], "-----")
	if dashes < 0 || !strings.Contains(head[:5+dashes], "PRIVATE KEY") {
		return 0, 0
	}
	from = i + 5 + dashes + 5
	if strings.HasPrefix(s[from:], `\n`) {
		from += 2
	}
	from = skip(s, from, "\n\r ")
	key, _, _ := strings.Cut(s[from:], "-----END")
	return from, from + len(strings.TrimSuffix(strings.TrimRight(key, "\r\n"), `\n`))
}
