// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"fmt"
	"strings"
)

// A path pattern matches a whole path. "*" stands for any characters but a slash,
// "**" for any characters, "?" for one character that is not a slash; all else, brackets
// included, for itself.
type pattern struct {
	head string // literal start
	rest string // from the first wildcard on; "" when there is none
	need []byte // a literal part of rest that a path must have, for a quick no
	tail string // literal end of rest
	glob *glob  // of rest
}

// Patterns match when any of them does.
type Patterns struct {
	anchored [256][]pattern // with a head, by its second byte
	floating []pattern      // that begin with "**"
	hint     []byte         // what the need of every floating one begins with: "/." for those of home directories
}

// CompilePatterns gives the patterns of a list; the error names the first that cannot be meant.
func CompilePatterns(list []string) (Patterns, error) {
	var ps Patterns
	if len(list) > maxPatterns {
		return ps, fmt.Errorf("%d patterns, at most %d are allowed", len(list), maxPatterns)
	}
	for _, s := range list {
		if len(s) > maxConfigString || s == "" {
			return ps, fmt.Errorf("pattern %.64q is empty or longer than %d bytes", s, maxConfigString)
		}
		if s[0] != '/' && !strings.HasPrefix(s, "**") {
			return ps, fmt.Errorf("pattern %q can match no path: begin it with a slash or with **", s)
		}
		if strings.Contains(s, "***") {
			return ps, fmt.Errorf("pattern %q: three stars in a row mean nothing", s)
		}
		p := pattern{head: s}
		if i := strings.IndexAny(s, "*?"); i >= 0 {
			p.head, p.rest = s[:i], s[i:]
			p.tail = s[strings.LastIndexAny(s, "*?")+1:]
			p.glob = compileGlob(p.rest)
			for _, part := range strings.FieldsFunc(p.rest, func(r rune) bool { return r == '*' || r == '?' }) {
				if len(part) > len(p.need) {
					p.need = []byte(part)
				}
			}
		}
		switch {
		case len(p.head) > 1:
			ps.anchored[p.head[1]] = append(ps.anchored[p.head[1]], p)
			continue
		case p.head != "":
			for n := range ps.anchored {
				ps.anchored[n] = append(ps.anchored[n], p)
			}
			continue
		case len(ps.floating) == 0:
			ps.hint = p.need
		default:
			n := 0
			for n < min(len(ps.hint), len(p.need)) && ps.hint[n] == p.need[n] {
				n++
			}
			ps.hint = ps.hint[:n]
		}
		ps.floating = append(ps.floating, p)
	}
	return ps, nil
}

// Match says whether any pattern matches the whole path, in time linear in the path.
func (ps *Patterns) Match(path []byte) bool {
	second := byte(0)
	if len(path) > 1 {
		second = path[1]
	}
	anchored := ps.anchored[second]
	for i := range anchored {
		if anchored[i].match(path) {
			return true
		}
	}
	if len(ps.floating) == 0 || !bytes.Contains(path, ps.hint) {
		return false
	}
	for i := range ps.floating {
		if ps.floating[i].match(path) {
			return true
		}
	}
	return false
}

func (p *pattern) match(path []byte) bool {
	if len(path) < len(p.head) || string(path[:len(p.head)]) != p.head {
		return false
	}
	path = path[len(p.head):]
	switch p.rest {
	case "":
		return len(path) == 0
	case "**":
		return true
	}
	if len(path) < len(p.tail) || string(path[len(path)-len(p.tail):]) != p.tail || !bytes.Contains(path, p.need) {
		return false
	}
	return p.glob.match(path)
}

// A glob matches a text as a whole. It follows all ways of matching at once, one byte after the
// other, so that no text can make it go back: the cost is len(text) times the words of a set.
//
// State n of the set is: n characters of the pattern are matched. A star is no character but lets the
// state before it stay, "*" unless the byte is a slash.
type glob struct {
	words  int       // of a set of states
	end    int       // the state after the last character
	row    [256]byte // of a byte, in rows
	rows   []uint64  // sets of the states whose next character the byte may be; row 0: of all bytes not in the pattern, 1: a slash's
	star   []uint64  // the states that may stay except at a slash
	deep   []uint64  // the states that may stay
	always bool      // the end state may stay: what follows does not matter
}

func compileGlob(pattern string) *glob {
	g := &glob{words: len(pattern)/64 + 1}
	rows := 2
	g.row['/'] = 1
	for _, ch := range []byte(pattern) {
		if ch != '*' && ch != '?' && g.row[ch] == 0 {
			g.row[ch] = byte(rows)
			rows++
		}
	}
	g.rows = make([]uint64, rows*g.words)
	g.star, g.deep = make([]uint64, g.words), make([]uint64, g.words)
	for i := 0; i < len(pattern); i++ {
		word, bit := g.end/64, uint64(1)<<(g.end%64)
		switch ch := pattern[i]; ch {
		case '*':
			if i+1 < len(pattern) && pattern[i+1] == '*' {
				i++
				g.deep[word] |= bit
			} else {
				g.star[word] |= bit
			}
		case '?':
			for r := range rows {
				if r != 1 {
					g.rows[r*g.words+word] |= bit
				}
			}
			g.end++
		default:
			g.rows[int(g.row[ch])*g.words+word] |= bit
			g.end++
		}
	}
	g.always = g.deep[g.end/64]>>(g.end%64)&1 != 0
	return g
}

func (g *glob) match(s []byte) bool {
	if g.words == 1 {
		return g.matchShort(s)
	}
	set := make([]uint64, g.words)
	set[0] = 1
	for _, b := range s {
		row := g.rows[int(g.row[b])*g.words:][:g.words]
		carry, any := uint64(0), uint64(0)
		for w, states := range set {
			next := states & row[w]
			stay := states & g.deep[w]
			if b != '/' {
				stay |= states & g.star[w]
			}
			set[w] = next<<1 | carry | stay
			carry = next >> 63
			any |= set[w]
		}
		if any == 0 {
			return false
		}
	}
	return set[g.end/64]>>(g.end%64)&1 != 0
}

// matchShort is match for patterns of less than 64 characters, which nearly all are.
func (g *glob) matchShort(s []byte) bool {
	star, deep := g.star[0], g.deep[0]
	accept := uint64(1) << g.end
	set := uint64(1)
	for _, b := range s {
		stay := deep
		if b != '/' {
			stay |= star
		}
		set = set&g.rows[g.row[b]]<<1 | set&stay
		if set == 0 {
			return false
		}
		if g.always && set&accept != 0 {
			return true
		}
	}
	return set&accept != 0
}

// DefaultNoise lists what nearly every program reads to start, speak and know the time.
// A process's own directory of /proc is matched as /proc/self.
func DefaultNoise() []string {
	return []string{
		// The dynamic loader and shared libraries.
		"/etc/ld.so.cache",
		"/etc/ld.so.preload",
		"/etc/ld-musl-*.path",
		"/lib/**.so",
		"/lib/**.so.*",
		"/lib64/**.so",
		"/lib64/**.so.*",
		"/usr/lib/**.so",
		"/usr/lib/**.so.*",
		"/usr/lib64/**.so",
		"/usr/lib64/**.so.*",
		"/usr/local/lib/**.so",
		"/usr/local/lib/**.so.*",
		// Locale, character sets, time, terminals.
		"/etc/locale.alias",
		"/usr/lib/locale/**",
		"/usr/lib64/locale/**",
		"/usr/share/locale/**",
		"/usr/share/locale-langpack/**",
		"/usr/lib/**/gconv/**",
		"/usr/lib64/gconv/**",
		"/usr/lib/gconv/**",
		"/etc/localtime",
		"/usr/share/zoneinfo/**",
		"/etc/terminfo/**",
		"/lib/terminfo/**",
		"/usr/lib/terminfo/**",
		"/usr/share/terminfo/**",
		// Name service, users, certificates.
		"/etc/nsswitch.conf",
		"/etc/host.conf",
		"/etc/resolv.conf",
		"/etc/gai.conf",
		"/etc/hosts",
		"/etc/passwd",
		"/etc/group",
		"/etc/ssl/certs/**",
		"/etc/ssl/openssl.cnf",
		// Devices without content, also when they are written to, and the terminal.
		"/dev/tty",
		"/dev/null",
		"/dev/zero",
		"/dev/full",
		"/dev/random",
		"/dev/urandom",
		// The kernel about the process itself and the machine's size.
		"/proc/self",
		"/proc/self/**",
		"/proc/filesystems",
		"/proc/meminfo",
		"/proc/stat",
		"/proc/cpuinfo",
		"/proc/sys/kernel/**",
		"/proc/sys/vm/**",
		"/sys/kernel/mm/transparent_hugepage/**",
		"/sys/devices/system/cpu/**",
		"/sys/devices/system/node/**",
		"/sys/fs/cgroup/**",
	}
}

// DefaultSensitive lists credentials and the doors out of a sandbox.
func DefaultSensitive() []string {
	return []string{
		"/etc/shadow",
		"/etc/shadow-",
		"/etc/gshadow",
		"/etc/gshadow-",
		"/etc/sudoers",
		"/etc/sudoers.d/**",
		"/etc/ssh/ssh_host_*_key",
		"/etc/ssl/private/**",
		"**/.ssh/**",
		"**/.gnupg/**",
		"**/.aws/**",
		"**/.azure/**",
		"**/.config/gcloud/**",
		"**/.config/gh/hosts.yml",
		"**/.kube/**",
		"**/.docker/config.json",
		"**/.netrc",
		"**/.git-credentials",
		"**/.npmrc",
		"**/.pypirc",
		"**/.cargo/credentials*",
		"**/.terraform.d/credentials*",
		"**/.vault-token",
		"**/.password-store/**",
		"**/.pgpass",
		"**/.my.cnf",
		"**/.env",
		"**/.codex/auth.json",
		"**/.claude/.credentials.json",
		"**/.bash_history",
		"**/.zsh_history",
		"/run/secrets/**",
		"/var/run/secrets/**",
		"/run/docker.sock",
		"/var/run/docker.sock",
		"/run/podman/podman.sock",
		"/run/user/*/podman/podman.sock",
		"/run/containerd/containerd.sock",
		"/run/crio/crio.sock",
		"/proc/*/environ",
		"/proc/*/task/*/environ",
		"/proc/*/mem",
		"/proc/*/task/*/mem",
		"/dev/mem",
		"/dev/kmem",
	}
}

// DefaultWorkspaceIgnore lists temporary directories, what bubblewrap makes for itself, and caches of tools.
func DefaultWorkspaceIgnore() []string {
	return []string{
		"/tmp/**",
		"/var/tmp/**",
		"/dev/shm/**",
		"/run/user/**",
		"/newroot/**",
		"/oldroot/**",
		"**/.cache/**",
		"**/.npm/**",
		"**/.yarn/**",
		"**/.bun/install/cache/**",
		"**/.local/share/pnpm/**",
		"**/go/pkg/mod/**", "**/go/pkg/sumdb/**",
		"**/.cargo/registry/**",
		"**/.cargo/git/**",
		"**/.rustup/tmp/**",
		"**/.rustup/downloads/**",
		"**/.gradle/**",
		"**/.m2/repository/**",
		"**/.nuget/packages/**",
		"**/.bundle/cache/**",
		"**/.composer/cache/**",
	}
}

// DefaultWorkspaceNever lists what belongs to the system or to somebody's shell and tools, not to work.
func DefaultWorkspaceNever() []string {
	return []string{
		"/bin/**",
		"/boot/**",
		"/etc/**",
		"/lib/**",
		"/lib64/**",
		"/opt/**",
		"/sbin/**",
		"/usr/**",
		"/var/**",
		"/root/.*",
		"/root/.*/**",
		"/home/*/.*",
		"/home/*/.*/**",
	}
}
