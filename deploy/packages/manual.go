// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
)

// manual makes a page of section 1 for each command, by name, of what help prints of it, as cobra lays that out. help is
// called with the words of the command.
func (r *release) manual(help func(words ...string) ([]byte, error)) (map[string][]byte, error) {
	pages := map[string][]byte{}
	var add func(short string, words ...string) error
	add = func(short string, words ...string) error {
		text, err := help(words...)
		if err != nil {
			return err
		}
		p := parseHelp(string(text))
		name := strings.Join(append([]string{"sheetbend"}, words...), "-")
		var related []string
		if len(words) > 0 {
			related = append(related, strings.Join(append([]string{"sheetbend"}, words[:len(words)-1]...), "-"))
		}
		for _, c := range p.commands {
			if c[0] == "help" {
				continue
			}
			below := append(append([]string{}, words...), c[0])
			related = append(related, name+"-"+c[0])
			if err := add(c[1], below...); err != nil {
				return err
			}
		}
		pages[name+".1"] = p.page(name, short, r, related)
		return nil
	}
	return pages, add("tell what AI agents do on this host, from the kernel")
}

// A helpText is what a command prints for --help, in its parts.
type helpText struct {
	description, usage, examples []string // lines
	flags                        []string
	commands                     [][2]string // name and description
}

var sectionLine = regexp.MustCompile(`^(Usage|Aliases|Examples|Available Commands|Additional Commands|Flags|Global Flags):$`)

func parseHelp(text string) (h helpText) {
	section := ""
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		if m := sectionLine.FindStringSubmatch(line); m != nil {
			section = m[1]
			continue
		}
		switch section {
		case "":
			h.description = append(h.description, line)
		case "Usage":
			if line != "" {
				h.usage = append(h.usage, strings.TrimSpace(line))
			}
		case "Examples":
			h.examples = append(h.examples, line)
		case "Available Commands", "Additional Commands":
			if name, about, ok := strings.Cut(strings.TrimSpace(line), " "); ok && strings.HasPrefix(line, "  ") {
				h.commands = append(h.commands, [2]string{name, strings.TrimSpace(about)})
			}
		case "Flags", "Global Flags":
			if strings.HasPrefix(line, "  ") {
				h.flags = append(h.flags, line)
			}
		}
	}
	return h
}

// page is the page in the language of man(7).
func (h *helpText) page(name, short string, r *release, related []string) []byte {
	var out bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	line(`.TH "%s" "1" "%s" "sheetbend %s" "Sheetbend"`, strings.ToUpper(roff(name)), r.at.Format("2006-01-02"), roff(r.version))
	line(".SH NAME\n%s \\- %s", roff(name), roff(short))
	line(".SH SYNOPSIS")
	for n, usage := range h.usage {
		if n > 0 {
			line(".br")
		}
		words := strings.Fields(usage)
		count := strings.Count(name, "-") + 1
		count = min(count, len(words))
		line(".B %s", roff(strings.Join(words[:count], " ")))
		if rest := strings.Join(words[count:], " "); rest != "" {
			line("%s", text(rest))
		}
	}
	line(".SH DESCRIPTION")
	for n, block := range blocks(h.description) {
		if strings.HasPrefix(block[0], " ") || len(block) > 1 && strings.HasPrefix(block[1], " ") {
			verbatim(line, block)
			continue
		}
		if n > 0 {
			line(".PP")
		}
		for _, l := range block {
			line("%s", text(l))
		}
	}
	if len(h.flags) > 0 {
		line(".SH OPTIONS")
		for _, f := range h.flags {
			flag, about, ok := strings.Cut(strings.TrimSpace(f), "   ")
			if !strings.HasPrefix(flag, "-") { // goes on
				line("%s", text(strings.TrimSpace(f)))
				continue
			}
			line(".TP\n.B %s", roff(flag))
			if ok {
				line("%s", text(strings.TrimSpace(about)))
			}
		}
	}
	if len(h.examples) > 0 {
		line(".SH EXAMPLES")
		verbatim(line, h.examples)
	}
	if len(related) > 0 {
		line(".SH SEE ALSO")
		for n, other := range related {
			end := ","
			if n == len(related)-1 {
				end = ""
			}
			line(".BR %s (1)%s", roff(other), end)
		}
	}
	return out.Bytes()
}

// blocks are what empty lines part.
func blocks(lines []string) (out [][]string) {
	var block []string
	for _, l := range append(lines, "") {
		if strings.TrimSpace(l) != "" {
			block = append(block, l)
			continue
		}
		if block != nil {
			out = append(out, block)
		}
		block = nil
	}
	return out
}

// verbatim writes lines as they are, without empty ones at the ends.
func verbatim(line func(string, ...any), lines []string) {
	line(".PP\n.nf")
	for _, l := range strings.Split(strings.Trim(strings.Join(lines, "\n"), "\n"), "\n") {
		line("%s", text(l))
	}
	line(".fi")
}

// roff escapes what troff would not print as it is.
func roff(s string) string { return strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s) }

// text is roff for the beginning of a line, where a dot or an apostrophe begins a request.
func text(s string) string {
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		return `\&` + roff(s)
	}
	return roff(s)
}
