// SPDX-License-Identifier: Apache-2.0

package mask

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strings"
)

const (
	hexes = numerals + "abcdefABCDEF"
	// signs are those that people put into passwords, encoded those that encodings of keys have.
	signs   = "!@#$%^&*?+"
	encoded = "+/=_-.~!%:|*$@"
)

// random is true of what nobody has as a name or a word: changes between letters, digits and cases, or much of hex.
func random(v string) bool {
	if len(v) < 16 || uuid(v) {
		return false
	}
	v = v[:min(len(v), 256)]
	var n [4]int
	changes, last := 0, other
	for i := 0; i < len(v); i++ {
		kind := kindOf(v[i])
		n[kind]++
		switch {
		case kind == other && !has(encoded, v[i]):
			return false
		case kind == other:
			continue
		case last != other && kind != last:
			changes++
		}
		last = kind
	}
	alpha := n[aLower] + n[anUpper]
	if only(v, hexes) {
		return n[aDigit] >= 3 && alpha >= 2 && len(v) >= 20 || len(v) >= 32 && alpha > 0
	}
	return n[other]*5 <= len(v) && changes*3 >= len(v) && alpha >= 4 // others are words-with-dashes, and paths
}

// long is true of letters and digits in a row, longer than words are.
func long(v string) bool {
	return len(v) >= 24 && only(v, lowers+numerals)
}

// uuid is true of 8-4-4-4-12.
func uuid(v string) bool {
	return len(v) == 36 && v[8] == '-' && v[13] == '-' && v[18] == '-' && v[23] == '-' &&
		strings.Count(v, "-") == 4 && only(v, hexes+"-")
}

var unleet = strings.NewReplacer("0", "o", "1", "l", "3", "e", "4", "a", "5", "s", "7", "t",
	"@", "a", "$", "s", "!", "i")

// passwordish is true of what only a password looks like, of six to sixty-four characters: signs between letters and
// digits, or a word that says so: s3cr3t, P@ssw0rd.
func passwordish(v string) bool {
	if len(v) < 6 || len(v) > 64 || strings.ContainsAny(v, " /,:=") || pathLike(v) || none(v) {
		return false
	}
	n := count(v)
	signed := strings.ContainsAny(v, signs)
	switch {
	case !signed && n[aDigit] == 0:
		return false
	case signed && n[aDigit] > 0 && n[aLower]+n[anUpper] > 2,
		n[anUpper] > 0 && n[aLower] > 0 && n[aDigit] > 0 && !strings.ContainsAny(v, ".-"):
		return true
	}
	flat := strings.ToLower(unleet.Replace(v))
	return slices.ContainsFunc(passwordlike, func(w string) bool { return strings.Contains(flat, w) })
}

// leet is true of words with digits for letters: m4tr1x.
func leet(v string) bool {
	if len(v) < 5 || len(v) > 64 || !only(v, letters+numerals+"!@#$%^&*+") {
		return false
	}
	for i := 1; i+1 < len(v); i++ {
		if has("013457", v[i]) && letter(v[i-1]) && letter(v[i+1]) {
			return true
		}
	}
	return false
}

// mixed is true of what has both cases and digits in turn, as tokens have that are too short to be random.
func mixed(v string) bool {
	if len(v) < 12 {
		return false
	}
	n := count(v)
	return n[anUpper] > 1 && n[aLower] > 1 && n[aDigit] > 1 && only(v, nameBytes+"~+/=") && !pathLike(v)
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
	pair, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(v, "="))
	return err == nil && bytes.IndexByte(pair, ':') >= 0 &&
		!slices.ContainsFunc(pair, func(b byte) bool { return b < ' ' || b > '~' })
}

// drawn tells what was drawn by lot from words-with-dashes: digits within, or letters of both cases mixed.
func drawn(v string) bool {
	v = v[:min(len(v), 64)]
	found, dashes := 0, 0
	for i := 0; i < len(v); i++ {
		switch {
		case has("-_.", v[i]):
			dashes++
		case digit(v[i]), i > 0 && letter(v[i-1]) && upper(v[i]) != upper(v[i-1]):
			found++
		}
	}
	return dashes*5 <= len(v) && found >= max(2, len(v)/12)
}
