// SPDX-License-Identifier: Apache-2.0

package mask

import "strings"

// netrc is for what ~/.netrc has: machine h login u password x.
func (m *masker) netrc() {
	s := m.s[:m.end]
	if !m.words || !strings.Contains(s, "login ") {
		return
	}
	for i := 0; ; {
		n := strings.Index(s[i:], "password ")
		if n < 0 {
			return
		}
		i += n + len("password ")
		if m.work -= 128; m.work < 0 {
			m.end = i
			return
		}
		to := until(s, i, spaces+"\\\"'")
		before := strings.Fields(s[max(0, i-128):i])
		if len(before) >= 3 && strings.HasSuffix(before[len(before)-3], "login") && !none(s[i:to]) {
			m.hide(i, to)
		}
	}
}

// manifest is for Secrets of Kubernetes: what is in them is one, whatever its name.
func (m *masker) manifest() {
	if !m.words || !strings.Contains(m.s[:m.end], "kind: Secret") {
		return
	}
	m.work -= m.end
	within, at, from := -1, 0, 0 // how far data: and the name before are indented
	for line := range strings.Lines(m.s[:m.end]) {
		begin := from
		from += len(line)
		text := strings.TrimRight(line, "\r\n")
		in := skip(text, 0, " ")
		key, v, pair := strings.Cut(text[in:], ":")
		v = strings.Trim(v, " \"'")
		switch {
		case key == "data" || key == "stringData":
			within, at = in, len(text)
		case in == len(text) || within < 0:
		case in <= within:
			within = -1
		case in > at: // of a block
			m.hide(begin+in, begin+len(text))
		case pair:
			if at = in; v != "" && v[0] != '|' && v[0] != '>' && !none(v) && !public[strings.ToLower(key)] {
				end := begin + len(strings.TrimRight(text, " \"'"))
				m.hide(end-len(v), end)
			}
		}
	}
}

// expected is for scripts of expect and its like: what is sent after a password was asked for.
func (m *masker) expected() {
	s := m.s[:m.end]
	if !m.words || !strings.Contains(s, "send") || !strings.Contains(s, "expect") && !strings.Contains(s, "spawn") {
		return
	}
	sent := false
	for i := 0; ; {
		n := strings.Index(s[i:], "send")
		if n < 0 {
			return
		}
		asked := s[max(i, i+n-256) : i+n]
		if m.work -= 8 * len(asked); m.work < 0 {
			m.end = i
			return
		}
		i += n + len("send")
		if !containsFold(asked, "assword", "assphrase", "asscode") &&
			!(sent && containsFold(asked, "retype", "again", "confirm", "repeat", "verify")) {
			continue
		}
		sent = true
		from := skip(s, i, "lineusr_- (") // send -- "x", sendline("x")
		from = skip(s, from, "\"'{\\")
		to := until(s, from, "\\\"'\n;")
		m.work -= to - i
		if s[from-1] == '{' && byteAt(s[from:to], to-from-1) == '}' {
			to--
		}
		if !none(s[from:to]) {
			m.hide(from, to)
		}
	}
}
