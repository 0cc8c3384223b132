// SPDX-License-Identifier: Apache-2.0

package mask

// maxNested is how deep a script within a script's quotes is looked into.
const maxNested = 3

// script masks what words announce within a part of the argument that may be a shell's script: agents run every command
// as `bash -c "…"`. It goes through the words in the way of a shell as far as that matters here. Words in quotes may
// be a script again, down to maxNested. sure is whether it is one, not only looks so.
func (m *masker) script(from, to, depth int, sure bool) {
	s := m.s[:to]
	c := command{inner: true, end: to, sure: sure}
	unclosed := map[byte]bool{}
	for i := from; i < to; {
		if m.work < 0 {
			m.end = min(m.end, i)
			return
		}
		switch b := s[i]; {
		case has(" \t\\", b):
			i++
			continue
		case has(ends, b):
			next := command{inner: true, end: to, sure: sure}
			if b == '|' && !(i+1 < to && s[i+1] == '|') && (i == 0 || s[i-1] != '|') { // a pipe
				next.words, next.count = c.words, c.count
			}
			c = next
			i++
			continue
		}
		begin, end, next := scriptWord(s, i, unclosed)
		w := s[begin:end]
		m.work -= next - i
		c.at = begin
		before := len(m.found)
		use := c.word(m, begin, end)
		if len(m.found) == before && depth < maxNested && spaced(w) && use != code {
			m.script(begin, end, depth+1, sure && use == shellScript)
		}
		i = next
	}
}

// scriptWord gives the word that begins at i, without quotes around it, and where to go on. The end of a quote
// that nothing closes is looked for to the end of s, so only once for each kind: that is kept in unclosed.
func scriptWord(s string, i int, unclosed map[byte]bool) (begin, end, next int) {
	closing := func(i int) int {
		q := s[i]
		for n := i + 1; n < len(s) && !unclosed[q]; n++ {
			if s[n] == q {
				return n
			}
			if s[n] == '\\' && q == '"' {
				n++
			}
		}
		unclosed[q] = true
		return -1
	}
	begin = i
	if isQuote(s[i]) {
		if n := closing(i); n > 0 && (n+1 == len(s) || has(ends+`\`, s[n+1])) {
			return i + 1, n, n + 1
		} else if n < 0 {
			i++
			begin = i
		}
	}
	for i < len(s) && !has(ends, s[i]) {
		if isQuote(s[i]) {
			if n := closing(i); n > 0 {
				i = n
			}
		}
		i++
	}
	end = i
	// A script in quotes leaves the end of its own quotes.
	for end > begin && (s[end-1] == '\\' || isQuote(s[end-1]) && !has(s[begin:end-1], s[end-1])) {
		end--
	}
	return begin, end, max(i, begin+1)
}
