// SPDX-License-Identifier: Apache-2.0

// Package paths writes the paths of records as /proc would show them.
package paths

import (
	"bytes"

	"github.com/sheetbend/sheetbend/collector/record"
)

// Marks are the ways in which a path that the kernel resolved is not a plain one.
type Marks struct {
	Truncated bool // too long or too deep: its beginning is missing
	Outside   bool // leads out of the task's root
	Unlinked  bool // has no name any more
	Pseudo    bool // on no mounted file system: one component, the name of the object
}

// ExecMarks gives the marks of an executable's path; flags are those of an exec or process record.
func ExecMarks(flags uint16) Marks {
	return Marks{
		Truncated: flags&record.ExecExeTruncated != 0,
		Outside:   flags&record.ExecExeOutside != 0,
		Unlinked:  flags&record.ExecUnlinked != 0,
		Pseudo:    flags&record.ExecMemfd != 0,
	}
}

// OpenMarks gives the marks of an opened path; flags are those of an open record.
func OpenMarks(flags uint16) Marks {
	return Marks{
		Truncated: flags&record.OpenTruncated != 0,
		Outside:   flags&record.OpenOutside != 0,
		Unlinked:  flags&record.OpenUnlinked != 0,
		Pseudo:    flags&record.OpenPseudo != 0,
	}
}

// deletedSuffix is what the kernel's d_path, and so /proc/PID/exe, shows after the
// last name of a file that has none any more.
const deletedSuffix = " (deleted)"

// AppendResolved writes a path as /proc would show it: "(unreachable)/x" outside the root, "…/x"
// when the beginning is missing (ours: the kernel gives up there), "/memfd:x (deleted)".
func AppendResolved(dst []byte, path record.Components, m Marks) []byte {
	switch {
	case m.Truncated:
		dst = append(dst, "…"...)
	case m.Outside:
		dst = append(dst, "(unreachable)"...)
	case m.Pseudo:
		name := bytes.TrimRight(path, "\x00")
		if bytes.HasPrefix(name, []byte("memfd:")) {
			dst = append(dst, '/')
		}
		dst = append(dst, name...)
		if m.Unlinked {
			dst = append(dst, deletedSuffix...)
		}
		return dst
	}
	dst = path.AppendPath(dst)
	if m.Unlinked {
		dst = append(dst, deletedSuffix...)
	}
	return dst
}

// Plain takes from a path what AppendResolved wrote behind the last name of a file that has none any more. Paths and
// names are compared without it; a file whose own name ends so keeps it, for the kernel's flag decides.
func Plain[T string | []byte](path T, unlinked bool) T {
	if unlinked {
		return path[:len(path)-len(deletedSuffix)]
	}
	return path
}

// Unproven says whether others than the host's root may have decided what an executable's path or owner is said to be.
// flags are those of an exec or process record.
func Unproven(flags uint16) bool {
	return flags&(record.ExecForeignMounts|record.ExecForeignRoot|record.ExecExeSet|record.ExecExeOutside|record.ExecExeTruncated) != 0
}

// AppendDirectory writes a working directory; flags are those of an exec or process record.
func AppendDirectory(dst []byte, path record.Components, flags uint16) []byte {
	return AppendResolved(dst, path, Marks{
		Truncated: flags&record.ExecCwdTruncated != 0,
		Outside:   flags&record.ExecCwdOutside != 0,
		Unlinked:  flags&record.ExecCwdDeleted != 0,
	})
}

// AppendRequested makes a requested name absolute by the directory it starts from, without
// asking what its parts are: "." and ".." go by the letter, symbolic links stay.
func AppendRequested(dst []byte, base record.Components, flags uint16, name []byte) []byte {
	start := len(dst)
	if len(name) > 0 && name[0] != '/' {
		if flags&record.OpenBase == 0 {
			return append(dst, name...)
		}
		dst = AppendResolved(dst, base, OpenMarks(flags&^record.OpenUnlinked))
		dst = append(dst, '/')
	}
	dst = append(dst, name...)
	return dst[:start+len(Clean(dst[start:]))]
}

// Clean is path.Clean of an absolute path, in place.
func Clean(p []byte) []byte {
	if len(p) == 0 || p[0] != '/' {
		return p
	}
	w := 1
	for r := 1; r < len(p); {
		end := bytes.IndexByte(p[r:], '/')
		if end < 0 {
			end = len(p)
		} else {
			end += r
		}
		part := p[r:end]
		switch {
		case len(part) == 0 || len(part) == 1 && part[0] == '.':
		case len(part) == 2 && part[0] == '.' && part[1] == '.':
			w = max(1, bytes.LastIndexByte(p[:max(w-1, 0)], '/')+1)
		default:
			w += copy(p[w:], part)
			if end < len(p) {
				p[w] = '/'
				w++
			}
		}
		r = end + 1
	}
	if w > 1 && p[w-1] == '/' {
		w--
	}
	return p[:w]
}

// Directory is the path up to and with the last slash.
func Directory(p []byte) []byte {
	return p[:bytes.LastIndexByte(p, '/')+1]
}
