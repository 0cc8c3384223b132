// SPDX-License-Identifier: Apache-2.0

package mask

import (
	"path"
	"strings"
)

// said is what echo and the like print, and where to.
type said struct {
	words   [4]extent
	count   int
	writing bool // to the file that the next word names
}

// says takes a word that echo prints, and where to.
func (c *command) says(m *masker, begin, end int) {
	w := m.s[begin:end]
	if only(w, numerals+">") && has(w, '>') {
		c.writing = true
		return
	}
	file, ok := strings.CutPrefix(strings.TrimLeft(w, "12&"), ">")
	switch {
	case ok:
	case c.writing:
		file = w
	case c.count < len(c.words):
		c.words[c.count] = extent{begin, end}
		c.count++
		return
	default:
		return
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
	for _, x := range c.words[:c.count] {
		text := m.s[x.from:x.to]
		if m.work -= 8 * len(text); m.work < 0 { // echo x >a.key >a.key: each looks at all that was said
			return
		}
		if !has(text, ' ') && !strings.Contains(text, `\n`) {
			if strings.Count(text, ":") > 1 { // ~/.pgpass
				x.from += strings.LastIndexByte(text, ':') + 1
			}
			c.hideSaid(m, x.from, x.to)
			continue
		}
		for from := x.from; from < x.to; {
			to := endOf(m.s[:x.to], from, `\`)
			if v := m.s[from:to]; passwordish(v) || random(v) {
				m.hide(from, to)
			}
			if from = to + 1; to < x.to && m.s[to] == '\\' {
				from++ // \n
			}
		}
	}
}

// document hides the lines of a here-document, the sign of which is from begin to end.
func (c *command) document(m *masker, begin, end int) {
	word := strings.Trim(m.s[begin+2:end], `-"'\`)
	at := strings.IndexByte(m.s[end:c.end], '\n')
	if word == "" || at < 0 {
		return
	}
	from := end + at + 1
	for line := range strings.Lines(m.s[from:c.end]) {
		to := from + len(strings.TrimSuffix(line, "\n"))
		if m.work <= 0 || strings.TrimSpace(line) == word {
			return
		}
		c.hideSaid(m, from, to)
		m.work -= to - from + 64
		from += len(line)
	}
}

// readsInput is for an option that says that standard input is a secret: what echo printed was one.
func (c *command) readsInput(m *masker) {
	c.reads = true
	for _, x := range c.words[:c.count] {
		c.hideSaid(m, x.from, x.to)
	}
	c.count = 0
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
