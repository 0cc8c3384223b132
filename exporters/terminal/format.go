// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"fmt"
	"path"
	"strings"
)

// clipPath keeps the last maxPath bytes.
func clipPath(s string) string {
	if len(s) <= maxPath {
		return s
	}
	from := len(s) - maxPath
	for from < len(s) && s[from]&0xc0 == 0x80 {
		from++
	}
	return "…" + strings.Clone(s[from:])
}

// Quote writes a text as a shell would read one argument: what is printed beside it begins behind it.
func Quote(s string) string {
	if s == "" {
		return "''"
	}
	if Escape(s) != s {
		return "$'" + escapeTo(s, `\'`) + "'"
	}
	if strings.ContainsAny(s, " \t\n\"'`$&|;<>()*?[]{}#~!\\") {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return s
}

// Relative shortens a path below the working directory of its process.
func Relative(cwd, file string) string {
	if cwd == "" || cwd == "/" || !strings.HasPrefix(file, cwd) {
		return file
	}
	switch rest := file[len(cwd):]; {
	case rest == "":
		return "."
	case rest[0] == '/':
		return "." + rest
	}
	return file
}

// Plural is a noun as it stands behind a number.
func Plural(n int64, one string) string {
	switch {
	case n == 1:
		return one
	case strings.HasSuffix(one, "s"):
		return one + "es"
	}
	return one + "s"
}

// Count is a number with its noun.
func Count(n int64, one string) string { return fmt.Sprintf("%d %s", n, Plural(n, one)) }

// Duration takes at most eight columns.
func Duration(ns uint64) string {
	const (
		us = 1000
		ms = 1000 * us
		s  = 1000 * ms
	)
	switch {
	case ns < ms:
		return fmt.Sprintf("%d µs", ns/us)
	case ns < 10*ms:
		return fmt.Sprintf("%.1f ms", float64(ns)/ms)
	case ns < s:
		return fmt.Sprintf("%d ms", ns/ms)
	case ns < 60*s:
		return fmt.Sprintf("%.2f s", float64(ns/(10*ms))/100)
	case ns < 3600*s:
		return fmt.Sprintf("%dm %02ds", ns/(60*s), ns/s%60)
	case ns < 100*3600*s:
		return fmt.Sprintf("%dh %02dm", ns/(3600*s), ns/(60*s)%60)
	}
	return fmt.Sprintf("%dd %02dh", ns/(24*3600*s), ns/(3600*s)%24)
}

func base(file string) string {
	if file == "" {
		return ""
	}
	return path.Base(file)
}
