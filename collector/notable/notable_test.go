// SPDX-License-Identifier: Apache-2.0

package notable_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/sheetbend/sheetbend/collector/notable"
	"github.com/sheetbend/sheetbend/collector/span"
)

// of makes a span of a kind with attributes: pairs of a key and a string, int, bool or []string.
func of(kind span.Kind, attrs ...any) *span.Span {
	s := &span.Span{Kind: kind, Start: 1000, End: 5000}
	for i := 0; i < len(attrs); i += 2 {
		a := span.Attr{Key: attrs[i].(string)}
		switch v := attrs[i+1].(type) {
		case string:
			a.Kind, a.Str = span.StringAttr, v
		case int:
			a.Kind, a.Int = span.IntAttr, int64(v)
		case bool:
			a.Kind, a.Int = span.BoolAttr, 1
		case []string:
			a.Kind, a.List = span.StringsAttr, v
		}
		s.Attrs = append(s.Attrs, a)
	}
	return s
}

func by(name string, kind span.Kind, attrs ...any) *span.Span {
	return of(kind, append([]any{span.KeyExecutableName, name}, attrs...)...)
}

func failed(s *span.Span) *span.Span {
	s.Failed = true
	return s
}

const (
	ok      = string(span.OK)
	refused = string(span.Refused)
	missing = string(span.Missing)
)

// told are spans and what they tell: name, severity and sentence; "" for those that are not notable.
var told = []struct {
	span *span.Span
	want string
}{
	{by("cat", span.Open, span.KeySensitive, true, span.KeyFilePath, "/etc/shadow", span.KeyFileAccess, "read", span.KeyOutcome, ok), "secret WARN cat read /etc/shadow"},
	{by("cat", span.Open, span.KeySensitive, true, span.KeyFilePath, "/etc/shadow", span.KeyFileAccess, "read", span.KeyOutcome, refused, span.KeyErrorType, "EACCES"), "secret INFO cat was refused /etc/shadow (EACCES)"},
	{by("sh", span.Open, span.KeySensitive, true, span.KeyOutside, true, span.KeyFilePath, "/root/.ssh/authorized_keys", span.KeyFileAccess, "write", span.KeyOutcome, ok), "secret WARN sh opened for writing /root/.ssh/authorized_keys"},
	{by("rm", span.Change, span.KeySensitive, true, span.KeyFilePath, "/a/.env", span.KeyFileOperation, "unlink", span.KeyOutcome, ok), "secret WARN rm deleted /a/.env"},
	{by("curl", span.Connect, span.KeySensitive, true, span.KeyPeerAddress, "/run/docker.sock", span.KeyTransport, "unix", span.KeyOutcome, ok), "secret WARN curl connected to /run/docker.sock"},
	{by("cat", span.Open, span.KeySensitive, true, span.KeyFilePath, "/root/.netrc", span.KeyFileAccess, "read", span.KeyOutcome, missing), ""},
	{by("cat", span.Open, span.KeySensitive, true, span.KeyFilePath, "/root/.netrc", span.KeyFileAccess, "path_only", span.KeyOutcome, ok), ""},
	{by("claude", span.Open, span.KeyAgentName, "claude-code", span.KeyAttribution, "session", span.KeySensitive, true, span.KeyFilePath, "/root/.claude/.credentials.json", span.KeyFileAccess, "read", span.KeyOutcome, ok), "secret INFO claude read /root/.claude/.credentials.json, its agent's own"},
	{by("cat", span.Open, span.KeyAgentName, "claude-code", span.KeyAttribution, "call_id", span.KeySensitive, true, span.KeyFilePath, "/root/.claude/.credentials.json", span.KeyFileAccess, "read", span.KeyOutcome, ok), "secret WARN cat read /root/.claude/.credentials.json"},
	{by("ps", span.Open, span.KeyKnown, "lister", span.KeySensitive, true, span.KeyFilePath, "/proc/7/environ", span.KeyFileAccess, "read", span.KeyOutcome, ok), ""},
	{by("ps", span.Open, span.KeyKnown, "lister", span.KeyTainted, true, span.KeySensitive, true, span.KeyFilePath, "/proc/7/environ", span.KeyFileAccess, "read", span.KeyOutcome, ok), "secret WARN ps read /proc/7/environ"},
	{by("ps", span.Open, span.KeyKnown, "lister", span.KeySensitive, true, span.KeyFilePath, "/proc/7/mem", span.KeyFileAccess, "read", span.KeyOutcome, ok), "secret WARN ps read /proc/7/mem"},
	{by("ps", span.Open, span.KeyKnown, "lister", span.KeySensitive, true, span.KeyFilePath, "/w/environ", span.KeyFileAccess, "read", span.KeyOutcome, ok), "secret WARN ps read /w/environ"},
	{by("bwrap", span.Open, span.KeyKnown, "wrapper", span.KeySensitive, true, span.KeyFilePath, "/newroot/home/u/.ssh", span.KeyFileAccess, "create", span.KeyOutcome, ok), ""},
	{by("bwrap", span.Open, span.KeyKnown, "wrapper", span.KeySensitive, true, span.KeyFilePath, "/home/u/.ssh/x", span.KeyFileAccess, "create", span.KeyOutcome, ok), "secret WARN bwrap created /home/u/.ssh/x"},
	{by("bwrap", span.Open, span.KeyKnown, "wrapper", span.KeySensitive, true, span.KeyFilePath, "/newroot/home/u/.ssh/id", span.KeyFileAccess, "read", span.KeyOutcome, ok), "secret WARN bwrap read /newroot/home/u/.ssh/id"},
	{by("bwrap", span.Open, span.KeyKnown, "wrapper", span.KeySensitive, true, span.KeyFilePath, "/newroot/home/u/.ssh/id", span.KeyFileAccess, "write", span.KeyOutcome, ok), "secret WARN bwrap opened for writing /newroot/home/u/.ssh/id"},
	{by("bwrap", span.Change, span.KeyKnown, "wrapper", span.KeySensitive, true, span.KeyFilePath, "/newroot/home/u/.ssh/id", span.KeyFileOperation, "unlink", span.KeyOutcome, ok), "secret WARN bwrap deleted /newroot/home/u/.ssh/id"},
	{by("bwrap", span.Open, span.KeySensitive, true, span.KeyFilePath, "/newroot/home/u/.ssh", span.KeyFileAccess, "create", span.KeyOutcome, ok), "secret WARN bwrap created /newroot/home/u/.ssh"},
	{by("ps", span.Open, span.KeyExecutablePath, "/usr/bin/ps", span.KeySensitive, true, span.KeyFilePath, "/proc/7/environ", span.KeyFileAccess, "read", span.KeyOutcome, ok), "secret WARN ps read /proc/7/environ"},
	{by("cat", span.Open, span.KeyFilePath, "/etc/hosts", span.KeyFileAccess, "read", span.KeyOutcome, ok), ""},
	{by("cat", span.Open, span.KeyFilePath, "/etc/x", span.KeyFileAccess, "read", span.KeyOutcome, refused, span.KeyErrorType, "EACCES"), ""},

	{by("sh", span.Open, span.KeyOutside, true, span.KeyFilePath, "/etc/cron.d/x", span.KeyFileAccess, "create", span.KeyOutcome, ok), "outside WARN sh created /etc/cron.d/x"},
	{by("rm", span.Change, span.KeyOutside, true, span.KeyFilePath, "/opt/old/", span.KeyFileOperation, "unlink", span.KeyFolded, true, span.KeyCount, 46, span.KeyOutcome, ok), "outside WARN rm deleted /opt/old/ (46 files)"},
	{by("mv", span.Change, span.KeyOutside, true, span.KeyFilePath, "/b", span.KeyFileOldPath, "/a", span.KeyFileOperation, "rename", span.KeyOutcome, ok), "outside WARN mv renamed /a → /b"},

	{by("chmod", span.Change, span.KeyFilePath, "/w/x", span.KeyFileOperation, "chmod", span.KeyFileMode, "4755", span.KeyOutcome, ok), "privileges WARN chmod made /w/x set-user-id or set-group-id (4755)"},
	{by("chmod", span.Change, span.KeyFilePath, "/w/x", span.KeyFileOperation, "chmod", span.KeyFileMode, "0755", span.KeyOutcome, ok), ""},
	{by("setcap", span.Change, span.KeyFilePath, "/w/x", span.KeyFileOperation, "setxattr", span.KeyFileAttribute, "security.capability", span.KeyOutcome, ok), "privileges WARN setcap gave capabilities to /w/x"},
	{of(span.Exec, span.KeyPrivilegedExec, true, span.KeyParentExecutable, "/bin/sh", span.KeyExecutablePath, "/usr/bin/sudo"), "privileges WARN sh ran /usr/bin/sudo, which gained rights by that"},
	{of(span.Start, span.KeyPrivilegedExec, true, span.KeyParentExecutable, "/bin/sh", span.KeyExecutablePath, "/usr/bin/sudo"), "privileges WARN sh ran /usr/bin/sudo, which gained rights by that"},
	{of(span.Exec, span.KeyPrivilegedExec, true, span.KeyNoticed, true, span.KeyExecutablePath, "/usr/bin/sudo"), ""},
	{of(span.Exec, span.KeyPrivilegedExec, true, span.KeyPreexisting, true, span.KeyExecutablePath, "/usr/bin/sudo"), ""},
	{of(span.Exec, span.KeyFileless, true, span.KeyParentExecutable, "/usr/bin/python3", span.KeyExecutablePath, "/memfd:x (deleted)"), "fileless WARN python3 ran /memfd:x (deleted), which has no file"},
	{of(span.Exec, span.KeyCallRoot, true, span.KeyAttribution, "unannounced", span.KeyParentExecutable, "/opt/claude", span.KeyCommandLine, "sh -c id"), "unannounced WARN claude ran outside of every call: sh -c id"},
	{of(span.Exec, span.KeyAttribution, "unannounced", span.KeyParentExecutable, "/bin/sh", span.KeyCommandLine, "id"), ""},
	{of(span.Exec, span.KeyClaimContradicted, true, span.KeyParentExecutable, "/bin/sh", span.KeyExecutablePath, "/bin/ls"), "claim WARN sh ran /bin/ls with an id in its environment that lineage contradicts"},

	{by("gdb", span.Access, span.KeyAccessOp, "ptrace_attach", span.KeyAccessPID, 12, span.KeyAccessExe, "/usr/bin/node", span.KeyOutcome, ok), "access WARN gdb attached to node (pid 12)"},
	{by("gdb", span.Access, span.KeyAccessOp, "process_vm_writev", span.KeyAccessPID, 1, span.KeyAccessOutside, true, span.KeyOutcome, ok), "access ERROR gdb wrote to the memory of a process (pid 1) outside of its sandbox"},
	{by("gdb", span.Access, span.KeyAccessOp, "ptrace_attach", span.KeyAccessPID, 1, span.KeyAccessOutside, true, span.KeyOutcome, refused, span.KeyErrorType, "EPERM"), "access INFO gdb tried in vain: attached to a process (pid 1) outside of its sandbox (EPERM)"},
	{by("kill", span.Access, span.KeyAccessOp, "signal", span.KeyAccessSignal, "SIGKILL", span.KeyAccessPID, 7, span.KeyAccessOutside, true, span.KeyOutcome, ok), "access WARN kill sent SIGKILL to a process (pid 7) outside of its sandbox"},
	{by("ps", span.Access, span.KeyAccessOp, "proc", span.KeyAccessPID, 7, span.KeyAccessOutside, true, span.KeyOutcome, ok), ""},

	{by("unshare", span.Namespace, span.KeyNamespaceOp, "unshare", span.KeyNamespaceTypes, []string{"mnt", "user"}, span.KeyOutcome, ok), "namespace INFO unshare made namespaces (mnt, user)"},
	{by("nsenter", span.Namespace, span.KeyNamespaceOp, "setns", span.KeyNamespaceTypes, []string{"net"}, span.KeyOutcome, ok), "namespace WARN nsenter joined namespaces (net)"},
	{by("unshare", span.Namespace, span.KeyNamespaceOp, "unshare", span.KeyNamespaceTypes, []string{"net"}, span.KeyOutcome, refused, span.KeyErrorType, "EPERM"), "namespace INFO unshare was refused namespaces (net) (EPERM)"},
	{by("bwrap", span.Namespace, span.KeyNamespaceOp, "clone", span.KeyNamespaceTypes, []string{"mnt", "user"}, span.KeyOutcome, ok), "namespace INFO bwrap made namespaces (mnt, user)"},
	{by("bwrap", span.Change, span.KeyFileOperation, "mount", span.KeyFilePath, "/newroot", span.KeyOutcome, ok), "mount INFO bwrap mounted at /newroot"},
	{by("bwrap", span.Change, span.KeyKnown, "wrapper", span.KeyTainted, true, span.KeyFileOperation, "mount", span.KeyFilePath, "/newroot", span.KeyOutcome, ok), "mount INFO bwrap mounted at /newroot"},
	{by("bwrap", span.Namespace, span.KeyKnown, "wrapper", span.KeyNamespaceOp, "clone", span.KeyNamespaceTypes, []string{"mnt", "user"}, span.KeyOutcome, ok), ""},
	{by("mount", span.Change, span.KeyFileOperation, "mount", span.KeyFilePath, "/mnt", span.KeyOutcome, ok), "mount INFO mount mounted at /mnt"},
	{by("mount", span.Change, span.KeyFileOperation, "mount", span.KeyFilePath, "/mnt", span.KeyOutcome, refused, span.KeyErrorType, "EPERM"), "mount INFO mount tried in vain: mount /mnt (EPERM)"},
	{by("bwrap", span.Change, span.KeyKnown, "wrapper", span.KeyFileOperation, "mount", span.KeyFilePath, "/newroot", span.KeyOutcome, ok), ""},
	{by("tcpdump", span.Socket, span.KeySocketFamily, "packet", span.KeySocketType, "raw", span.KeyOutcome, ok), "socket.raw WARN tcpdump made a packet socket, which sees or forges packets"},
	{by("nmap", span.Socket, span.KeySocketFamily, "inet", span.KeySocketType, "raw", span.KeyOutcome, refused, span.KeyErrorType, "EPERM"), "socket.raw INFO nmap was refused a inet raw socket (EPERM)"},
	{by("ping", span.Socket, span.KeySocketFamily, "inet", span.KeySocketType, "dgram", span.KeyOutcome, ok), ""},

	{by("node", span.Listen, span.KeyLocalAddress, "0.0.0.0", span.KeyLocalPort, 8080, span.KeyTransport, "tcp", span.KeyOutcome, ok), "listen INFO node listens at 0.0.0.0:8080"},
	{by("node", span.Listen, span.KeyLocalAddress, "::", span.KeyLocalPort, 8080, span.KeyTransport, "tcp", span.KeyOutcome, ok), "listen INFO node listens at [::]:8080"},
	{by("tmux", span.Listen, span.KeyLocalAddress, "/tmp/tmux", span.KeyTransport, "unix", span.KeyOutcome, ok), ""},
	{by("curl", span.Connect, span.KeyNewDestination, true, span.KeyServerAddress, "api.example.com", span.KeyPeerAddress, "192.0.2.1", span.KeyPeerPort, 443, span.KeyTransport, "tcp", span.KeyOutcome, ok), "destination INFO curl connected to api.example.com:443"},
	{by("curl", span.Connect, span.KeyNewDestination, true, span.KeyPeerAddress, "192.0.2.1", span.KeyPeerPort, 443, span.KeyOutcome, "failed", span.KeyErrorType, "ECONNREFUSED"), "destination INFO curl tried to connect to 192.0.2.1:443 (ECONNREFUSED)"},
	{by("curl", span.Connect, span.KeyNewDestination, true, span.KeyNoticed, true, span.KeyPeerAddress, "192.0.2.1", span.KeyPeerPort, 443), ""},
	{by("curl", span.ConnectStart, span.KeyNewDestination, true, span.KeyPeerAddress, "192.0.2.1", span.KeyPeerPort, 443), "destination INFO curl tried to connect to 192.0.2.1:443"},

	{by("sh", span.Escape, span.KeyCgroupFrom, "/box", span.KeyCgroupTo, "/user"), "escape ERROR sh left its sandbox: /box → /user"},
	{by("sh", span.Escape, span.KeyCgroupFrom, "/box"), "escape ERROR sh left its sandbox /box"},
	{of(span.SessionCall, span.KeyApprovalViolated, true, span.KeyCallTitle, "rm -rf x"), "approval.violated ERROR denied, but it ran: rm -rf x"},
	{of(span.Telemetry, span.KeyApprovalViolated, true, span.KeyTelemetryKind, "decision", span.KeyCallTitle, "x"), "approval.violated ERROR denied, but it ran: x"},
	{of(span.Tool, span.KeyApprovalViolated, true, span.KeyCallTitle, "x"), ""},
	{of(span.SessionCall, span.KeyTainted, true, span.KeyCallTitle, "make"), "tainted WARN somebody else had reached into it or its agent: make"},
	{by("make", span.Open, span.KeyTainted, true, span.KeyFilePath, "/w/x", span.KeyFileAccess, "read", span.KeyOutcome, ok), ""},
	{by("node", span.Open, span.KeyDeclared, "undeclared", span.KeyFilePath, "/w/b", span.KeyFileAccess, "write", span.KeyOutcome, ok), "undeclared WARN node opened for writing /w/b, which its call had not declared"},
	{by("sh", span.ExecRefused, span.KeyRequestedExecutable, "/w/x", span.KeyOutcome, refused, span.KeyErrorType, "EACCES"), "exec.refused INFO sh was refused to run /w/x (EACCES)"},
	{by("sh", span.ExecRefused, span.KeyRequestedExecutable, "/w/x", span.KeyOutcome, "failed", span.KeyErrorType, "ENOEXEC"), ""},
	{by("node", span.Exit, span.KeyOOMKilled, true), "oom WARN node was killed for memory"},
	{by("node", span.Exec, span.KeyOOMKilled, true, span.KeyNoticed, true), "oom WARN node was killed for memory"},
	{failed(of(span.Limit, span.KeyLimit, "pids.max", span.KeyCount, 3)), "limit WARN the sandbox hit its limit pids.max, 3 times"},
	{of(span.Limit, span.KeyLimit, "cpu.max", span.KeyCount, 3), ""},
	{of(span.Loss, span.KeyLost, 3, span.KeyLostKind, "connect", span.KeyLostCause, "ring_full"), "loss WARN 3 records were lost (connect, ring_full)"},
	{of(span.Loss, span.KeyLost, 3, span.KeyLostKind, "open", span.KeyLostCause, "shed_noise"), ""},
}

func TestWhatIsNotable(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, c := range told {
		got := ""
		if e, ok := notable.Of(c.span); ok {
			got = fmt.Sprint(e.Name, " ", e.Severity, " ", e.Sentence)
			seen[e.Name] = true
		}
		if got != c.want {
			t.Errorf("%v\n got %q\nwant %q", c.span, got, c.want)
		}
		again := *c.span
		again.StandIn = true
		if e, ok := notable.Of(&again); ok {
			t.Errorf("a stand-in is told of again: %v", e)
		}
	}
	for _, name := range notable.Names() {
		if !seen[name] {
			t.Errorf("no span tells of %s", name)
		}
	}
}

// A line is one, short and harmless whatever names a program chooses.
func TestSentencesAreShortAndPrintable(t *testing.T) {
	t.Parallel()
	for _, hostile := range []string{
		strings.Repeat("ü", 4000), "/a\n\x1b[31m/b", "/\u202egnp.exe", "\xff\xfe", strings.Repeat("/x", 2000) + "/end", "/" + strings.Repeat("\x01", 300),
	} {
		for _, c := range told {
			s := *c.span
			s.Attrs = slices.Clone(s.Attrs)
			for i := range s.Attrs {
				switch s.Attrs[i].Key {
				case span.KeyFilePath:
					if known := span.Attrs(s.Attrs).Text(span.KeyKnown); known != "" {
						continue // where it lies counts
					}
				case span.KeyKnown, span.KeyOutcome, span.KeyFileAccess, span.KeyFileOperation, span.KeyAttribution, span.KeyTelemetryKind, span.KeyAccessOp,
					span.KeyFileMode, span.KeyFileAttribute, span.KeySocketFamily, span.KeySocketType, span.KeyDeclared, span.KeyLostCause:
					continue // from lists of this sensor's
				}
				s.Attrs[i].Str = hostile
				if s.Attrs[i].Kind == span.StringsAttr {
					s.Attrs[i].List = []string{hostile, hostile}
				}
			}
			e, ok := notable.Of(&s)
			if ok == (c.want == "") && s.Kind != span.Namespace && s.Kind != span.Change && s.Kind != span.Listen {
				t.Errorf("names decide what is notable: %s, %q", s.Kind, c.want)
			}
			if len(e.Sentence) > 200 || !utf8.ValidString(e.Sentence) || strings.ContainsFunc(e.Sentence, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%d bytes: %q", len(e.Sentence), e.Sentence)
			}
		}
	}
	e, _ := notable.Of(by("cat", span.Open, span.KeySensitive, true, span.KeyFileAccess, "read", span.KeyOutcome, ok,
		span.KeyFilePath, "/home/somebody/src/"+strings.Repeat("deep/", 40)+".aws/credentials"))
	if !strings.HasPrefix(e.Sentence, "cat read /home/somebody") || !strings.HasSuffix(e.Sentence, "/.aws/credentials") {
		t.Errorf("a path without its ends: %q", e.Sentence)
	}
}

// The table of docs/spans.md has all events in their order, with their severities.
func TestNotableSpansAreDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/spans.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n### Notable spans\n")
	section, _, _ = strings.Cut(section, "\n### ")
	var names []string
	severities := map[string][]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z.]+)` \\|.*\\|([^|]*)\\|$").FindAllStringSubmatch(section, -1) {
		names = append(names, row[1])
		for _, s := range regexp.MustCompile("INFO|WARN|ERROR").FindAllString(row[2], -1) {
			if !slices.Contains(severities[row[1]], s) {
				severities[row[1]] = append(severities[row[1]], s)
			}
		}
	}
	if !slices.Equal(names, notable.Names()) {
		t.Errorf("documented: %q\nwant        %q", names, notable.Names())
	}
	made := map[string][]string{}
	for _, c := range told {
		if e, ok := notable.Of(c.span); ok && !slices.Contains(made[e.Name], e.Severity.String()) {
			made[e.Name] = append(made[e.Name], e.Severity.String())
		}
	}
	for name, want := range made {
		slices.Sort(want)
		slices.Sort(severities[name])
		if !slices.Equal(severities[name], want) {
			t.Errorf("%s is documented as %q, and is %q", name, severities[name], want)
		}
	}
}

// Of is called for every span; ordinary ones make nothing.
func TestOrdinarySpansCostNoMemory(t *testing.T) {
	s := ordinary()
	if n := testing.AllocsPerRun(100, func() { notable.Of(s) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func ordinary() *span.Span {
	s := by("cat", span.Open, span.KeyFileWrite, true, span.KeyFilePath, "/home/agent/project/src/file.c", span.KeyFileAccess, "write", span.KeyOutcome, ok)
	for i := range 20 {
		s.Attrs = append(s.Attrs, span.Attr{Key: fmt.Sprintf("sheetbend.something.%d", i), Kind: span.StringAttr, Str: "value"})
	}
	return s
}

func BenchmarkOf(b *testing.B) {
	for _, c := range []struct {
		name string
		s    *span.Span
	}{{"ordinary", ordinary()}, {"secret", told[0].span}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				notable.Of(c.s)
			}
		})
	}
}
