// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sheetbend/sheetbend/collector/span"
)

var update = flag.Bool("update", false, "write the golden files anew")

const (
	begin     = uint64(1_790_000_000_000_000_000)
	ms        = uint64(1_000_000)
	sessionID = "0192f0c1"
)

// Builders of the spans that the collector makes.

func text(k, v string) span.Attr         { return span.Attr{Key: k, Kind: span.StringAttr, Str: v} }
func number(k string, v int64) span.Attr { return span.Attr{Key: k, Kind: span.IntAttr, Int: v} }
func yes(k string) span.Attr             { return span.Attr{Key: k, Kind: span.BoolAttr, Int: 1} }
func argv(args ...string) span.Attr {
	return span.Attr{Key: span.KeyCommandArgs, Kind: span.StringsAttr, List: args}
}
func cwd(dir string) span.Attr  { return text(span.KeyWorkingDirectory, dir) }
func exit(code int64) span.Attr { return number(span.KeyExitCode, code) }
func program(path string) []span.Attr {
	return []span.Attr{text(span.KeyExecutablePath, path), text(span.KeyExecutableName, path[strings.LastIndexByte(path, '/')+1:])}
}

func made(kind span.Kind, id, parent byte, pid int64, from, to uint64, attrs ...span.Attr) span.Span {
	s := span.Span{
		Trace: span.TraceFor(sessionID, "", 0), ID: span.ID{id, 7: byte(kind)}, Kind: kind, Name: kind.String(), Session: sessionID,
		Start: begin + from, End: begin + to,
		Attrs: append([]span.Attr{number(span.KeyPID, pid), text(span.KeySessionID, sessionID), text(span.KeyAgentName, "codex")}, attrs...),
	}
	switch span.Attrs(attrs).Text(span.KeyErrorType) {
	case "":
	case "ENOENT", "ENXIO":
		s.Attrs = append(s.Attrs, text(span.KeyOutcome, string(span.Missing)))
	case "EACCES", "EPERM":
		s.Attrs = append(s.Attrs, text(span.KeyOutcome, string(span.Refused)))
	default:
		s.Attrs = append(s.Attrs, text(span.KeyOutcome, string(span.Failed)))
	}
	if parent != 0 {
		s.Parent = span.ID{parent, 7: byte(span.Exec)}
		s.Above = s.Parent
	}
	return s
}

func exec(id, parent byte, pid int64, from, to uint64, path string, attrs ...span.Attr) span.Span {
	return made(span.Exec, id, parent, pid, from, to, append(program(path), attrs...)...)
}

func open(id, parent byte, pid int64, at uint64, access, path string, attrs ...span.Attr) span.Span {
	return made(span.Open, id, parent, pid, at, at+1000, append(attrs, text(span.KeyFileAccess, access), text(span.KeyFilePath, path))...)
}

func connect(id, parent byte, pid int64, from, to uint64, transport, address string, port int64, attrs ...span.Attr) span.Span {
	return made(span.Connect, id, parent, pid, from, to, append(attrs, text(span.KeyTransport, transport), text(span.KeyPeerAddress, address), number(span.KeyPeerPort, port))...)
}

func failed(s span.Span) span.Span {
	s.Failed = true
	return s
}

func errno(name string) span.Attr { return text(span.KeyErrorType, name) }

func story() []span.Span {
	work := "/home/ada/project"
	return []span.Span{
		failed(exec(1, 0, 4242, 0, 2410*ms, "/usr/bin/dash", argv("sh", "./demo.sh"), cwd(work), exit(3), number(span.KeyNoiseOpens, 3))),
		open(2, 1, 4242, 1*ms, "read", work+"/demo.sh"),
		open(3, 1, 4242, 20*ms, "create", work+"/out/report.txt", number(span.KeyCount, 2)),
		open(4, 1, 4242, 30*ms, "write", work+"/out/report.txt"),
		failed(open(5, 1, 4242, 40*ms, "read", "/etc/shadow", errno("EACCES"), yes(span.KeySensitive))),
		exec(6, 1, 4243, 50*ms, 51*ms, "/usr/bin/cat", argv("cat", "package.json"), cwd(work), exit(0), number(span.KeyNoiseOpens, 4)),
		open(27, 1, 4242, 41*ms, "create", work+"/lock", errno("EEXIST")),
		open(28, 1, 4242, 42*ms, "path_only", work),
		open(7, 6, 4243, 50*ms, "read", work+"/package.json"),
		failed(exec(8, 1, 4244, 100*ms, 420*ms, "/usr/bin/curl", argv("curl", "-s", "http://127.0.0.1:9/"), cwd(work), exit(7), number(span.KeyNoiseOpens, 34))),
		open(9, 8, 4244, 110*ms, "read", "/home/ada/.curlrc", errno("ENOENT")),
		failed(connect(10, 8, 4244, 120*ms, 120*ms+85_000, "tcp", "127.0.0.1", 9, errno("ECONNREFUSED"))),
		connect(11, 8, 4244, 130*ms, 131*ms+200_000, "tcp", "::1", 443),
		connect(12, 8, 4244, 130*ms, 130*ms+1000, "udp", "10.0.0.53", 53, number(span.KeyCount, 2)),
		connect(13, 8, 4244, 140*ms, 2140*ms, "tcp", "192.0.2.1", 80, yes(span.KeyPartial)),
		made(span.Connect, 14, 8, 4244, 141*ms, 141*ms+9000, text(span.KeyTransport, "unix"), text(span.KeyPeerAddress, "/run/docker.sock")),
		made(span.Connect, 29, 8, 4244, 142*ms, 142*ms+9000, text(span.KeyTransport, "unix"), text(span.KeyPeerAddress, "/run/nscd/socket"), errno("ENOENT")),
		open(30, 8, 4244, 143*ms, "truncate", "/dev/null"),
		exec(15, 1, 4245, 500*ms, 2500*ms, "/usr/bin/sleep", argv("sleep", "600"), yes(span.KeyPartial)),
		failed(exec(16, 1, 4246, 600*ms, 700*ms, "/usr/bin/python3.13", argv("python3", "-c", "import os\nos.abort()"), text(span.KeyExitSignal, "SIGABRT"))),
		// Ways around the other hooks.
		made(span.Socket, 31, 16, 4246, 610*ms, 610*ms+1000, text(span.KeySocketFamily, "packet"), text(span.KeySocketType, "raw"), text(span.KeySocketProtocol, "0x0003")),
		failed(made(span.Socket, 32, 16, 4246, 611*ms, 612*ms, text(span.KeySocketFamily, "inet"), text(span.KeySocketType, "raw"), text(span.KeySocketProtocol, "icmp"), number(span.KeyCount, 3), errno("EPERM"))),
		made(span.Namespace, 33, 16, 4246, 620*ms, 620*ms+1000, text(span.KeyNamespaceOp, "unshare"), span.Attr{Key: span.KeyNamespaceTypes, Kind: span.StringsAttr, List: []string{"net", "user"}}),
		made(span.Namespace, 34, 16, 4246, 621*ms, 621*ms+1000, text(span.KeyNamespaceOp, "setns"), errno("EINVAL")),
		made(span.Change, 38, 16, 4246, 625*ms, 625*ms+1000, text(span.KeyFileOperation, "rename"), text(span.KeyFileOldPath, "/project/src/cart.go.tmp"), text(span.KeyFilePath, "/project/src/ca\nrt.go")),
		made(span.Change, 39, 16, 4246, 626*ms, 626*ms+1000, text(span.KeyFileOperation, "exchange"), text(span.KeyFileOldPath, "/a"), text(span.KeyFilePath, "/b")),
		failed(made(span.Change, 40, 16, 4246, 627*ms, 627*ms+1000, text(span.KeyFileOperation, "rename"), text(span.KeyFileOldPath, "/a"), text(span.KeyFilePath, "/etc/b"), errno("EACCES"))),
		made(span.Change, 41, 16, 4246, 628*ms, 628*ms+1000, text(span.KeyFileOperation, "unlink"), text(span.KeyFilePath, "/project/old/"), yes(span.KeyFolded), number(span.KeyCount, 46)),
		made(span.Change, 42, 16, 4246, 628*ms+10, 628*ms+1000, text(span.KeyFileOperation, "symlink"), text(span.KeyFilePath, "/project/l"), text(span.KeyFileLinkTarget, "../x")),
		made(span.Change, 43, 16, 4246, 628*ms+20, 628*ms+1000, text(span.KeyFileOperation, "chmod"), text(span.KeyFilePath, "/project/x"), text(span.KeyFileMode, "0755"), text(span.KeyFileModeBefore, "0644")),
		made(span.Change, 44, 16, 4246, 628*ms+30, 628*ms+1000, text(span.KeyFileOperation, "chown"), text(span.KeyFilePath, "/project/x"), text(span.KeyFileGroup, "5")),
		made(span.Change, 45, 16, 4246, 628*ms+40, 628*ms+1000, text(span.KeyFileOperation, "setxattr"), text(span.KeyFilePath, "/project/x"), text(span.KeyFileAttribute, "user.\x1b")),
		made(span.Change, 46, 16, 4246, 628*ms+50, 628*ms+1000, text(span.KeyFileOperation, "mkdir"), text(span.KeyFilePath, "/project/d"), text(span.KeyOutcome, "failed"), errno("EEXIST")),
		made(span.Change, 47, 16, 4246, 628*ms+60, 628*ms+1000, text(span.KeyFileOperation, "mount"), text(span.KeyFilePath, "/m\nnt"), text(span.KeyMountSource, "/dev/sd\na"), text(span.KeyMountType, "ext4")),
		failed(made(span.Change, 48, 16, 4246, 628*ms+70, 628*ms+1000, text(span.KeyFileOperation, "chroot"), text(span.KeyFilePath, "/jail"), text(span.KeyOutcome, "refused"), errno("EPERM"))),
		made(span.Access, 35, 16, 4246, 630*ms, 630*ms+1000, text(span.KeyAccessOp, "ptrace_attach"), number(span.KeyAccessPID, 4245), text(span.KeyAccessExe, "/usr/bin/sleep")),
		made(span.Access, 36, 16, 4246, 631*ms, 632*ms, text(span.KeyAccessOp, "process_vm_readv"), number(span.KeyAccessPID, 1234), text(span.KeyAccessExe, "/usr/bin/ba\x1bsh"), yes(span.KeyAccessOutside), number(span.KeyCount, 7)),
		failed(made(span.Access, 37, 16, 4246, 633*ms, 633*ms+1000, text(span.KeyAccessOp, "pidfd_getfd"), number(span.KeyAccessPID, 1), yes(span.KeyAccessOutside), errno("EPERM"))),
		made(span.Access, 50, 16, 4246, 634*ms, 634*ms+1000, text(span.KeyAccessOp, "signal"), text(span.KeyAccessSignal, "SIGTERM"), number(span.KeyAccessPID, 1234), text(span.KeyAccessExe, "/usr/bin/bash"), yes(span.KeyAccessOutside)),
		failed(made(span.ExecRefused, 51, 16, 4246, 640*ms, 640*ms+1000, text(span.KeyRequestedExecutable, "/home/ada/project/no\nexec"), errno("EACCES"), number(span.KeyCount, 2))),
		failed(made(span.Exit, 52, 16, 4290, 641*ms, 650*ms, append(program("/usr/bin/python3.13"), text(span.KeyExitSignal, "SIGKILL"), yes(span.KeyOOMKilled), yes(span.KeyWorker))...)),
		made(span.Limit, 53, 0, 0, 660*ms, 660*ms+1000, text(span.KeyLimit, "memory.max"), number(span.KeyCount, 12)),
		made(span.Listen, 41, 16, 4246, 640*ms, 640*ms+1000, text(span.KeyTransport, "tcp"), text(span.KeyLocalAddress, "::"), number(span.KeyLocalPort, 8080)),
		failed(made(span.Listen, 42, 16, 4246, 641*ms, 641*ms+1000, text(span.KeyTransport, "unix"), text(span.KeyLocalAddress, "/run/\x1bx.sock"), errno("EADDRINUSE"))),
		made(span.Accept, 43, 16, 4246, 642*ms, 642*ms+1000, text(span.KeyTransport, "tcp"), text(span.KeyPeerAddress, "10.0.0.2"), number(span.KeyPeerPort, 5555), number(span.KeyLocalPort, 8080), number(span.KeyCount, 3)),
		made(span.Close, 44, 16, 4246, 642*ms, 672*ms, text(span.KeyTransport, "tcp"), text(span.KeyPeerAddress, "10.0.0.2"), number(span.KeyPeerPort, 5555), number(span.KeyBytesReceived, 1_234_567), number(span.KeyBytesSent, 999)),
		made(span.Close, 45, 16, 4246, 643*ms, 673*ms, text(span.KeyTransport, "tcp"), text(span.KeyPeerAddress, "10.0.0.2"), number(span.KeyPeerPort, 5556), number(span.KeyBytesReceived, 99_960), number(span.KeyBytesSent, 3_000), errno("ECONNRESET")),
		// A shell that turns into another program.
		exec(17, 1, 4247, 800*ms, 801*ms, "/usr/bin/dash", argv("sh", "-c", "exec ls -l"), cwd(work), yes(span.KeyReplaced)),
		exec(18, 17, 4247, 801*ms, 803*ms, "/usr/bin/ls", argv("ls", "-l"), cwd(work), exit(0)),
		// A subshell without an exec of its own, and what it starts.
		open(19, 1, 4248, 900*ms, "create", work+"/sub.log"),
		func() span.Span {
			s := exec(20, 1, 4249, 910*ms, 911*ms, "/usr/bin/true", argv("true"), exit(0))
			s.Attrs = append(s.Attrs, number(span.KeyParentPID, 4248))
			return s
		}(),
		// A program that outlives the hold: its end comes later.
		made(span.Exec, 21, 1, 4250, 1000*ms, 3000*ms, append(program("/usr/bin/npm"), argv("npm", "install"), cwd(work), yes(span.KeyPartial))...),
		open(22, 21, 4250, 1100*ms, "read", work+"/node_modules/", yes(span.KeyFolded), number(span.KeyCount, 412)),
		made(span.Exit, 21, 21, 4250, 1000*ms, 2400*ms, append(program("/usr/bin/npm"), exit(0), number(span.KeyNoiseOpens, 2))...),
		// In a later trace of the session: the parent is a link.
		func() span.Span {
			s := exec(23, 0, 4251, 1200*ms, 1201*ms, "/usr/bin/id", argv("id"), exit(0))
			s.Trace = span.TraceFor(sessionID, "", 1)
			s.Above = span.ID{1, 7: byte(span.Exec)}
			return s
		}(),
		failed(made(span.Escape, 24, 21, 4250, 1500*ms, 1500*ms+1000, text(span.KeyCgroupTo, "/system.slice"))),
		failed(made(span.Loss, 25, 0, 0, 1600*ms, 1700*ms, number(span.KeyLost, 12), text(span.KeyLostKind, "open"), text(span.KeyLostCause, "ring_full"))),
		// A process whose start was lost.
		func() span.Span {
			s := open(26, 0, 4260, 1800*ms, "write", "/tmp/x")
			s.Attrs = append(s.Attrs, yes(span.KeyUnknownProcess))
			return s
		}(),
	}
}

func render(t testing.TB, o Options, spans []span.Span) string {
	t.Helper()
	tree := NewTree(o)
	for i := range spans {
		tree.Span(&spans[i])
	}
	var out bytes.Buffer
	if err := tree.Render(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func follow(o Options, spans []span.Span) string {
	var out bytes.Buffer
	f := NewFollow(&out, o)
	for i := range spans {
		f.Span(&spans[i])
	}
	f.Flush()
	return out.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("differs from %s (run with -update to accept):\n%s", path, got)
	}
}

func TestDrawings(t *testing.T) {
	tests := []struct {
		file string
		o    Options
	}{
		{"tree-100.txt", Options{Width: 100}},
		{"tree-60.txt", Options{Width: 60}},
		{"tree-piped.txt", Options{}}, // for no terminal
		{"tree-color.txt", Options{Width: 100, Color: true}},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			got := render(t, tt.o, story())
			golden(t, tt.file, got)
			if tt.o.Width > 0 && !tt.o.Color {
				for line := range strings.Lines(got) {
					if n := Cells(strings.TrimSuffix(line, "\n")); n > tt.o.Width {
						t.Errorf("%d columns: %s", n, line)
					}
				}
			}
		})
	}
	t.Run("follow.txt", func(t *testing.T) { golden(t, "follow.txt", follow(Options{Width: 100}, story())) })
}

func TestTreeDoesNotDependOnTheOrderOfArrival(t *testing.T) {
	want := render(t, Options{Width: 100}, story())
	for seed := range uint64(50) {
		spans := story()
		rand.New(rand.NewPCG(seed, 1)).Shuffle(len(spans), func(i, j int) { spans[i], spans[j] = spans[j], spans[i] })
		if got := render(t, Options{Width: 100}, spans); got != want {
			t.Fatalf("seed %d:\n%s", seed, got)
		}
	}
}

func TestRenderMayBeRepeated(t *testing.T) {
	tree := NewTree(Options{Width: 100})
	spans := story()
	for i := range spans {
		tree.Span(&spans[i])
	}
	var a, b bytes.Buffer
	if err := tree.Render(&a); err != nil {
		t.Fatal(err)
	}
	if err := tree.Render(&b); err != nil {
		t.Fatal(err)
	}
	if a.String() != b.String() {
		t.Errorf("the second drawing differs:\n%s", b.String())
	}
}

func TestRowsAreBounded(t *testing.T) {
	var spans []span.Span
	spans = append(spans, exec(1, 0, 1, 0, ms, "/bin/sh", exit(0)))
	for i := range 1000 {
		spans = append(spans, open(2, 1, 1, uint64(i), "write", fmt.Sprintf("/tmp/%d", i)))
	}
	got := render(t, Options{Width: 80, MaxRows: 100}, spans)
	if n := strings.Count(got, "write "); n != 98 {
		t.Errorf("%d writes are shown, want 98 beside the session and its process", n)
	}
	if !strings.HasSuffix(got, "\n… and 902 more (use --output)\n") {
		t.Errorf("the rest is not counted:\n%s", got[len(got)-200:])
	}
}

func TestManyActsAreCounted(t *testing.T) {
	var spans []span.Span
	for i := range 103 {
		spans = append(spans, made(span.Access, 2, 1, 1, uint64(i), uint64(i)+1, text(span.KeyAccessOp, "ptrace_attach"), number(span.KeyAccessPID, int64(i)), yes(span.KeyAccessOutside)))
	}
	got := render(t, Options{Width: 80}, append(spans, exec(1, 0, 1, 0, ms, "/bin/sh", exit(0))))
	if strings.Count(got, "ptrace ") != 100 || !strings.Contains(got, "+3 more accesses outside\n") || !strings.Contains(got, "103 accesses outside") {
		t.Errorf("drawn as:\n%s", got)
	}
}

func TestManyReadsAreShownByDirectory(t *testing.T) {
	file := func(n int, path string) (spans []span.Span) {
		for i := range n {
			spans = append(spans, open(2, 1, 1, uint64(i), "read", fmt.Sprintf(path, i), number(span.KeyCount, 2)))
		}
		return spans
	}
	tests := []struct {
		name  string
		spans [][]span.Span
		want  []string
	}{
		{"ten stay files", [][]span.Span{file(10, "/src/%d")}, []string{"/src/0 ×2", "/src/9 ×2"}},
		{"eleven are their directory", [][]span.Span{file(11, "/src/%d")}, []string{"/src/ (22 reads)"}},
		{"a single file in its directory stays", [][]span.Span{file(11, "/src/%d"), file(1, "/etc/hosts%d")}, []string{"/src/ (22 reads)", "/etc/hosts0 ×2"}},
		{"the deepest directories go first", [][]span.Span{file(9, "/a/%d"), file(9, "/a/b/c/%d")}, []string{"/a/0 ×2", "/a/8 ×2", "/a/b/c/ (18 reads)"}},
		{"subdirectories fold into their parent", [][]span.Span{file(30, "/a/b/%d/x")}, []string{"/a/b/ (60 reads)"}},
		{"top directories are the end, then it is counted", [][]span.Span{file(30, "/%d/x")}, []string{"/0/x", "/9/x", "+40 more reads"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			spans := []span.Span{
				exec(1, 0, 1, 0, ms, "/bin/grep", exit(0)),
				open(3, 1, 1, 99, "read", "/home/ada/.ssh/id_ed25519", yes(span.KeySensitive)),
			}
			for _, more := range tt.spans {
				spans = append(spans, more...)
			}
			got := render(t, Options{Width: 80}, spans)
			for _, want := range append(tt.want, "/home/ada/.ssh/id_ed25519 [sensitive]") {
				if !strings.Contains(got, want) {
					t.Errorf("lacks %q", want)
				}
			}
			if n := strings.Count(got, "\n"); n > 16 {
				t.Errorf("%d lines", n)
			}
			if t.Failed() {
				t.Log(got)
			}
		})
	}
}

func TestSensitiveNamesAreShownHoweverManyOthersThereAre(t *testing.T) {
	spans := []span.Span{exec(1, 0, 1, 0, ms, "/bin/cat", exit(1))}
	for i := range 50 {
		spans = append(spans, open(2, 1, 1, uint64(i), "read", fmt.Sprintf("/n%d", i), errno("ENOENT")))
		spans = append(spans, open(2, 1, 1, uint64(i), "write", fmt.Sprintf("/w%d", i)))
	}
	spans = append(spans,
		open(3, 1, 1, 60, "read", "/root/.aws/credentials", yes(span.KeySensitive), errno("ENOENT")),
		failed(open(4, 1, 1, 61, "read", "/root/.ssh/id_rsa", yes(span.KeySensitive), errno("EACCES"))),
		open(5, 1, 1, 62, "read", "/root/.netrc", yes(span.KeySensitive)))
	for name, o := range map[string]Options{"with room": {Width: 80}, "with all rows taken": {Width: 80, MaxRows: 20}} {
		t.Run(name, func(t *testing.T) {
			got := render(t, o, spans)
			lines := strings.Split(got, "\n")[4:7] // the first below the process
			for _, want := range []string{"/root/.aws/credentials [sensitive]", "/root/.ssh/id_rsa [sensitive]", "/root/.netrc [sensitive]"} {
				if !strings.Contains(strings.Join(lines, "\n"), want) {
					t.Errorf("%s is not among the first:\n%s", want, got)
				}
			}
			if o.MaxRows == 0 && (strings.Count(got, "missing  /n") != maxMissing || !strings.Contains(got, "+46 more names")) {
				t.Errorf("sensitive names count against the limit of others:\n%s", got)
			}
		})
	}
}

func TestConnectionsWithoutAnAnswerAreApartFromThoseWithOne(t *testing.T) {
	spans := []span.Span{exec(1, 0, 1, 0, ms, "/bin/curl", exit(1))}
	for i := range byte(3) {
		spans = append(spans, connect(2+i, 1, 1, uint64(i), 2000*ms, "tcp", "192.0.2.1", 80, yes(span.KeyPartial)))
	}
	spans = append(spans,
		connect(7, 1, 1, 0, 4*ms, "tcp", "192.0.2.1", 80),
		connect(8, 1, 1, 0, 9*ms, "tcp", "192.0.2.1", 443),
		connect(9, 1, 1, 10, 120*ms+10, "tcp", "192.0.2.1", 443))
	want := []string{
		`tcp 192\.0\.2\.1:80 ×3 +no answer\n`,
		`tcp 192\.0\.2\.1:80 +4\.0 ms\n`,
		`tcp 192\.0\.2\.1:443 ×2 \(9\.0 ms–120 ms\)`,
	}
	for seed := range uint64(10) {
		rand.New(rand.NewPCG(seed, 1)).Shuffle(len(spans), func(i, j int) { spans[i], spans[j] = spans[j], spans[i] })
		got := render(t, Options{Width: 80}, spans)
		for _, w := range want {
			if !regexp.MustCompile(w).MatchString(got) {
				t.Errorf("lacks %s:\n%s", w, got)
			}
		}
	}
}

func TestEveryKindOfSpanHasALine(t *testing.T) {
	for _, kind := range span.Kinds() {
		var out bytes.Buffer
		f := NewFollow(&out, Options{Width: 100})
		s := made(kind, 1, 0, 7, 0, 5*ms)
		f.Span(&s)
		f.Flush()
		if line := out.String(); strings.Count(line, "\n") != 1 || strings.Contains(line, kind.String()) ||
			strings.Contains(line, " read") != (kind == span.Open) {
			t.Errorf("%s is drawn as %q", kind, line)
		}
	}
}

func TestStoriesAreFollowedAndNotInTheTree(t *testing.T) {
	title := text(span.KeyCallTitle, "rm -rf \x1b[2J")
	spans := []span.Span{
		made(span.Session, 1, 0, 7, 0, 2000*ms, text(span.KeyCommandLine, "codex exec x"), yes(span.KeyPartial)),
		failed(made(span.SessionCall, 2, 0, 0, ms, 5*ms, title)),
		made(span.SessionEnd, 3, 0, 7, 0, 9*ms),
	}
	var out bytes.Buffer
	f := NewFollow(&out, Options{Width: 100})
	for n := range spans {
		f.Span(&spans[n])
	}
	f.Flush()
	for _, want := range []string{`agent +codex exec x\n`, `done +rm -rf \\x1b\[2J +4\.0 ms +failed\n`, `over +codex .* 9\.0 ms\n`} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("lacks %s:\n%s", want, out.String())
		}
	}
	if got := render(t, Options{Width: 80}, append(spans, exec(4, 0, 7, 0, ms, "/bin/true", exit(0)))); strings.Contains(got, "rm -rf") || !strings.Contains(got, "true") {
		t.Error(got)
	}
}

func TestFollowedLinesCountFromTheBeginInOrder(t *testing.T) {
	var out bytes.Buffer
	f := NewFollow(&out, Options{Width: 100})
	f.Begin(time.Unix(0, int64(begin)))
	for _, s := range []span.Span{
		exec(2, 1, 2, 5*ms, 6*ms, "/bin/true", exit(0)),
		open(3, 1, 1, 2*ms, "truncate", "/dev/null"), // as in the tree
		exec(1, 0, 1, 1*ms, 7*ms, "/bin/sh", exit(0)),
	} {
		f.Span(&s)
	}
	f.Flush()
	lines := strings.Split(out.String(), "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], "+0.001        1 sh") || !strings.Contains(lines[1], "+0.005        2 true") {
		t.Error(out.String())
	}
}

func TestProgramsThatOnlyStartAnotherShareItsRow(t *testing.T) {
	spans := []span.Span{
		exec(1, 0, 7, 0, ms, "/usr/bin/env", argv("env", "node", "npm"), yes(span.KeyReplaced), number(span.KeyNoiseOpens, 3)),
		exec(2, 1, 7, ms, 2*ms, "/usr/bin/dash", argv("dash", "npm"), yes(span.KeyReplaced)),
		exec(3, 2, 7, ms, 2*ms, "/usr/bin/node", argv("node", "npm"), exit(0), number(span.KeyNoiseOpens, 4)),
		open(4, 3, 7, ms, "write", "/tmp/x"),
	}
	got := render(t, Options{Width: 80}, spans)
	if !strings.Contains(got, "\nenv → dash → node npm ") || !strings.Contains(got, "+7 loader") || !strings.Contains(got, "1 process ") {
		t.Error(got)
	}
	spans = append(spans, open(5, 2, 7, ms, "write", "/tmp/y"))
	if got := render(t, Options{Width: 80}, spans); !strings.Contains(got, "\nenv → dash npm ") || !strings.Contains(got, "\n└─ node npm ") {
		t.Errorf("a program that did something has no row of its own:\n%s", got)
	}
}

func TestParentsInARingAreStillDrawn(t *testing.T) {
	a := exec(1, 2, 1, 0, ms, "/bin/a", exit(0))
	b := exec(2, 1, 2, 1, ms, "/bin/b", exit(0))
	own := exec(3, 3, 3, 2, ms, "/bin/c", exit(0))
	got := render(t, Options{Width: 80}, []span.Span{a, b, own})
	for _, name := range []string{"a ", "└─ b ", "c "} {
		if strings.Count(got, "\n"+name) != 1 {
			t.Errorf("%q is not drawn once:\n%s", name, got)
		}
	}
}

func TestDeepTreesStayWithinTheWidth(t *testing.T) {
	var spans []span.Span
	for i := range byte(200) {
		spans = append(spans, exec(i+1, i, int64(i)+1, uint64(i), ms, "/usr/bin/some-nested-program", argv("some-nested-program", "--with", "arguments"), exit(0)))
	}
	got := render(t, Options{Width: 80}, spans)
	if n := strings.Count(got, "exit 0"); n != 200 {
		t.Errorf("%d processes are drawn, want 200", n)
	}
	for line := range strings.Lines(got) {
		if Cells(strings.TrimSuffix(line, "\n")) > 80 || strings.Contains(line, "»") && !strings.Contains(line, "some-n") {
			t.Errorf("too long or without a name: %s", line)
		}
	}
}

func TestToolCallsStandUnderTheAgentThatMadeThem(t *testing.T) {
	agent := exec(1, 0, 5, 0, 100*ms, "/bin/codex", argv("codex"), exit(0), text(span.KeySandboxID, "sb-1"))
	call := made(span.Tool, 2, 0, 0, 10*ms, 50*ms, text(span.KeySandboxID, "sb-1"), text(span.KeyCallID, "call_7"), text(span.KeyToolName, "Bash"), text(span.KeyAttribution, "inferred"))
	call.ID = span.ID{2, 7: byte(span.Exec)} // the builders' parents are of this form
	call.Session = "01a2"                    // the agent's own, known with its first call
	ls := exec(3, 2, 7, 11*ms, 2*ms, "/bin/ls", argv("ls"), exit(0), text(span.KeySandboxID, "sb-1"), number(span.KeyParentPID, 5))
	ls.Session = "01a2"
	got := render(t, Options{Width: 80}, []span.Span{agent, call, ls})
	if !strings.Contains(got, "session 01a2") || !strings.Contains(got, "1 call · 2 processes") ||
		!strings.Contains(got, "\ncodex ") || !strings.Contains(got, "\n└─ call call_7 Bash [inferred] ") || !strings.Contains(got, "\n   └─ ls ") {
		t.Error(got)
	}
}

// A program's span comes when it ends, after those of what it started: until then each may stand under the agent's own.
func TestALongCallIsToldWithItsEnd(t *testing.T) {
	call := text(span.KeyCallID, "call_7")
	began := made(span.Tool, 1, 0, 0, 0, 20*ms, call, yes(span.KeyPartial))
	shell := exec(2, 1, 10, 1*ms, 90*ms, "/usr/bin/bash", argv("bash"), exit(0), call, yes(span.KeyCallRoot))
	ended := failed(made(span.ToolEnd, 3, 1, 0, 0, 90*ms, call))
	got := render(t, Options{}, []span.Span{began, shell, ended})
	if !strings.Contains(got, "call call_7") || !strings.Contains(got, "90 ms") || strings.Contains(got, "20 ms") || strings.Contains(got, "refused") || strings.Contains(got, "1 read") {
		t.Error(got)
	}
}

func TestACallUnderTheAgentsOwnSpanIsOneHoweverDeepItIs(t *testing.T) {
	context := text(span.KeyAttribution, "trace_context")
	within := exec(3, 2, 11, 2*ms, 3*ms, "/usr/bin/cat", argv("cat", "f"), exit(0), context)
	shell := failed(exec(2, 200, 10, 1*ms, 4*ms, "/usr/bin/bash", argv("bash", "-c", "cat f; exit 7"), exit(7), context, yes(span.KeyCallRoot)))
	said := made(span.Telemetry, 4, 200, 0, 5*ms, 5*ms, text(span.KeyCallID, "call_7"), text(span.KeyToolName, "Bash"), context)
	for _, spans := range [][]span.Span{{within, shell, said}, {shell, within, said}} {
		got := render(t, Options{}, spans)
		if !strings.Contains(got, "call call_7 Bash") || !strings.Contains(got, "1 call ·") || !strings.Contains(got, "2 processes") || !strings.Contains(got, "exit 7") || strings.Count(got, "─ call") > 1 {
			t.Error(got)
		}
	}
}

func TestACallThatRanAlthoughDeniedStandsOut(t *testing.T) {
	call := made(span.Tool, 1, 0, 0, 0, 50*ms, text(span.KeyCallID, "call_7"), text(span.KeyApproval, "denied"), span.Attr{Key: span.KeyApprovalViolated, Kind: span.BoolAttr, Int: 1})
	call.Failed = true
	got := render(t, Options{Width: 80}, []span.Span{call})
	if !strings.Contains(got, "call call_7 [RAN ALTHOUGH DENIED] ") || !strings.Contains(got, "failed") {
		t.Error(got)
	}
}

func TestSessionsAreApart(t *testing.T) {
	a, b := exec(1, 0, 1, 0, ms, "/bin/a", exit(0)), exec(2, 0, 2, 0, ms, "/bin/b", exit(0))
	b.Session = "other"
	got := render(t, Options{Width: 80}, []span.Span{a, b})
	if strings.Count(got, "session ") != 2 || strings.Index(got, "session other") < strings.Index(got, "\na ") {
		t.Error(got)
	}
}

func TestNoSpansDrawNothing(t *testing.T) {
	if got := render(t, Options{}, nil); got != "" {
		t.Errorf("drew %q", got)
	}
}

func TestEscape(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"plain text stays", "Makefile-1.0 (copy)", "Makefile-1.0 (copy)"},
		{"letters of any script stay", "naïve 日本語 файл", "naïve 日本語 файл"},
		{"emoji stay", "🚀", "🚀"},
		{"escape sequences", "\x1b[31mred\x1b]0;title\x07", `\x1b[31mred\x1b]0;title\x07`},
		{"line ends and tabs", "a\nb\rc\td", `a\nb\rc\td`},
		{"delete and NUL", "\x7f\x00", `\x7f\x00`},
		{"C1 controls", "\u009b31m\u0085", `\u009b31m\u0085`},
		{"C1 controls as raw bytes", "\x9b31m", `\x9b31m`},
		{"bidirectional overrides and isolates", "\u202etxt.exe\u2066", `\u202etxt.exe\u2066`},
		{"marks of direction", "\u200e\u200f\u061c", `\u200e\u200f\u061c`},
		{"zero width characters", "a\u200bb\ufeff", `a\u200bb\ufeff`},
		{"line and paragraph separators", "\u2028\u2029", `\u2028\u2029`},
		{"other spaces", "a\u00a0b\u3000c", `a\u00a0b\u3000c`},
		{"tags and private use", "\U000e0041\ue000", `\U000e0041\ue000`},
		{"letters that show nothing", "\u3164\u115f", `\u3164\u115f`},
		{"invalid UTF-8", "a\xffb\xc0", `a\xffb\xc0`},
		{"surrogates", "\xed\xa0\x80", `\xed\xa0\x80`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Escape(tt.in); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestQuote(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"plain words stay", "--color=auto", "--color=auto"},
		{"nothing is visible", "", "''"},
		{"spaces", "a b", "'a b'"},
		{"quotes", "it's", `'it'\''s'`},
		{"controls as the shell writes them", "a\n'\\b", `$'a\n\'\\b'`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Quote(tt.in); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestCut(t *testing.T) {
	tests := []struct {
		name, in    string
		n           int
		back, front string
	}{
		{"short text stays", "abc", 3, "abc", "abc"},
		{"long text ends in an ellipsis", "abcdef", 4, "abc…", "…def"},
		{"wide characters count two", "日本語", 5, "日本…", "…本語"},
		{"half a wide character is left out", "日本語", 4, "日…", "…語"},
		{"nothing fits into nothing", "abc", 0, "", ""},
		{"one column is the ellipsis", "abc", 1, "…", "…"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Cut(tt.in, tt.n); got != tt.back {
				t.Errorf("cut: %q, want %q", got, tt.back)
			}
			if got := CutFront(tt.in, tt.n); got != tt.front {
				t.Errorf("cutFront: %q, want %q", got, tt.front)
			}
		})
	}
}

func TestPathsBelowTheWorkingDirectoryAreRelative(t *testing.T) {
	tests := []struct{ name, cwd, file, want string }{
		{"below", "/w", "/w/a/b", "./a/b"},
		{"the directory itself", "/w", "/w", "."},
		{"a sibling with the same begin", "/w", "/repo/a", "/repo/a"},
		{"elsewhere", "/w", "/etc/passwd", "/etc/passwd"},
		{"the root as working directory changes nothing", "/", "/etc/passwd", "/etc/passwd"},
		{"unknown working directory", "", "/a", "/a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Relative(tt.cwd, tt.file); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestDurations(t *testing.T) {
	for ns, want := range map[uint64]string{
		0: "0 µs", 999_999: "999 µs", 1_240_000: "1.2 ms", 9_990_000: "10.0 ms", 310 * ms: "310 ms", 2410 * ms: "2.41 s", 59_999 * ms: "59.99 s",
		192_000 * ms: "3m 12s", 3_900_000 * ms: "1h 05m", 90 * 3_600_000 * ms: "90h 00m", 30 * 24 * 3_600_000 * ms: "30d 00h", 1<<64 - 1: "213503d 23h",
	} {
		if got := Duration(ns); got != want {
			t.Errorf("%d ns: %s, want %s", ns, got, want)
		}
	}
}

// Whatever a sandbox calls things, a drawing holds nothing but visible characters and line ends.
func FuzzNothingMovesTheCursor(f *testing.F) {
	f.Add(strings.Repeat("long", 30), strings.Repeat("/deep", 30), "日本語", "EPROTONOSUPPORT", int64(4), uint8(41))
	f.Add("\x1b[2J", "a\nb", "\u202e", "\xff", int64(1), uint8(0))
	f.Add("name", "/tmp/\u009b", "日本", "E\x07", int64(-1), uint8(77))
	f.Fuzz(func(t *testing.T, a, b, c, e string, n int64, bits uint8) {
		parent := bits % 5
		n %= 4_000_000 // pids have seven digits at most
		spans := []span.Span{
			exec(1, parent, n, 0, ms, "/"+a, argv(a, b, c), cwd(b), text(span.KeyExitSignal, e)),
			exec(2, 1, n+1, 1, ms, "/"+c, argv(c), text(span.KeyParentExecutable, a)),
			exec(4, 9, n+2, 1, ms, "/"+c, text(span.KeyParentExecutable, a)),
			open(3, 1, n, 2, a, b+"/"+c, errno(e), number(span.KeyCount, n)),
			open(4, 7, n, 2, "write", c),
			open(5, 1, n+5, 3, "create", a),
			connect(5, 1, n, 3, 4, a, b, n, errno(e), text("server.address", c)),
			made(span.Escape, 6, 1, n, 3, 4, text(span.KeyCgroupTo, a)),
			made(span.Socket, 6, 1, n, 3, 4, text(span.KeySocketFamily, a), text(span.KeySocketType, b), errno(e)),
			made(span.Namespace, 6, 1, n, 3, 4, text(span.KeyNamespaceOp, a), span.Attr{Key: span.KeyNamespaceTypes, Kind: span.StringsAttr, List: []string{b, c}}),
			made(span.Change, 6, 1, n, 3, 4, text(span.KeyFileOperation, a), text(span.KeyFileOldPath, b), text(span.KeyFilePath, c), text(span.KeyMountSource, b)),
			made(span.Access, 6, 1, n, 3, 4, text(span.KeyAccessOp, a), text(span.KeyAccessExe, b), yes(span.KeyAccessOutside)),
			made(span.Loss, 7, 0, n, 3, 4, number(span.KeyLost, n), text(span.KeyLostKind, b), text(span.KeyLostCause, c)),
			made(span.Tool, 8, 0, n, 3, 4, text("sheetbend.tool.name", b)),
			made(span.Exit, 9, 1, n, 0, uint64(n)),
		}
		for i := range spans {
			spans[i].Session = c
			spans[i].Attrs = append(spans[i].Attrs[3:], text(span.KeyAgentName, e), number(span.KeyPID, n))
		}
		o := Options{Width: int(bits), MaxRows: 3 + int(bits), Fold: bits%2 == 1, ASCII: bits%3 == 1}
		colored := o
		colored.Color = true
		if got, want := unstyled(render(t, colored, spans)), render(t, o, spans); strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(want, " ", "") {
			t.Fatalf("colour changes more than colour:\n%s\n%s", got, want)
		}
		for _, out := range []string{render(t, o, spans), follow(o, spans)} {
			if !utf8.ValidString(out) {
				t.Fatalf("not UTF-8: %q", out)
			}
			for _, r := range out {
				if r != '\n' && !isVisible(r) {
					t.Fatalf("%U in %q", r, out)
				}
			}
			if o.Width >= leastWidth {
				for line := range strings.Lines(out) {
					if got := Cells(strings.TrimSuffix(line, "\n")); got > o.Width {
						t.Fatalf("%d columns of %d: %q", got, o.Width, line)
					}
				}
			}
		}
	})
}

func TestALookupIsNoConnection(t *testing.T) {
	got := render(t, Options{Width: 80}, []span.Span{
		exec(1, 0, 1, 0, ms, "/bin/dig", exit(0), cwd("/")),
		made(span.Lookup, 2, 1, 1, 0, ms, text(span.KeyDNSName, "/a\nb")),
		connect(3, 1, 1, 0, 4*ms, "tcp", "192.0.2.1", 80),
	})
	if !strings.Contains(got, `lookup   /a\nb`) || !strings.Contains(got, "1 connection\n") {
		t.Errorf("drawn as:\n%s", got)
	}
}
