// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"

	"github.com/sheetbend/sheetbend/collector/span"
)

// of is a report of spans.
func of(spans ...*span.Span) *Report {
	r := New("test")
	for _, s := range spans {
		r.Span(s)
	}
	return r
}

func program(id, above uint64, call, command string, code int64, attrs ...span.Attr) *span.Span {
	s := made(span.Exec, id, above, call, append(attrs, text(span.KeyCommandLine, command), text(span.KeyExecutablePath, "/usr/bin/x"),
		integer(span.KeyPID, int64(id)), integer(span.KeyExitCode, code))...)
	s.Failed = code != 0
	return s
}

func file(id, above uint64, call, access, path string, attrs ...span.Attr) *span.Span {
	s := made(span.Open, id, above, call, append(attrs, text(span.KeyFileAccess, access), text(span.KeyFilePath, path))...)
	if access != "read" {
		s.Attrs = append(s.Attrs, set(span.KeyFileWrite))
	}
	return s
}

// small is a session of three calls with something of each kind.
func small() *Report {
	failed := told(201, 900, "call-1", "make test", integer(span.KeyCallExitCode, 2), text(span.KeyCallSummary,
		"2 programs, 1 failed · 1 created"), integer(span.KeyFilesCreated, 1), texts(span.KeyFilesCreatedNames, "/w/out.txt"),
		integer(span.KeyPrograms, 2), integer(span.KeyProgramsFailed, 1), text(span.KeyApproval, "approved"),
		text(span.KeyApprovalSource, "user"))
	failed.Failed = true
	return of(
		made(span.Session, 1, 0, "", text(span.KeyCommandLine, "codex exec 'mend it'"), set(span.KeyPartial)),
		program(2, 0, "", "codex exec 'mend it'", 0),
		file(3, 2, "", "read", "/home/a/.codex/config.toml"),
		program(20, 900, "call-1", "make test", 2),
		file(21, 20, "call-1", "create", "/w/out.txt"),
		program(22, 20, "call-1", "cc -c a.c", 0),
		file(23, 22, "call-1", "read", "/w/a.c"),
		failed,
		program(30, 901, "call-2", "cat /home/a/.ssh/id_rsa", 0),
		file(31, 30, "call-2", "read", "/home/a/.ssh/id_rsa", set(span.KeySensitive), text(span.KeyOutcome, "ok")),
		told(202, 901, "call-2", "cat ~/.ssh/id_rsa", text(span.KeyOutcome, "ok"), text(span.KeyCallSummary, "1 program · 1 secret"),
			integer(span.KeySecrets, 1), texts(span.KeySecretNames, "/home/a/.ssh/id_rsa"), integer(span.KeyNotables, 1),
			texts(span.KeyNotableLines, "read /home/a/.ssh/id_rsa")),
		program(40, 902, "call-3", "curl https://example.com", 0),
		made(span.Connect, 41, 40, "call-3", text(span.KeyServerAddress, "example.com"), text(span.KeyPeerAddress, "192.0.2.7"),
			integer(span.KeyPeerPort, 443), text(span.KeyTransport, "tcp"), text(span.KeyOutcome, "ok")),
		made(span.Close, 42, 41, "call-3", text(span.KeyServerAddress, "example.com"), text(span.KeyPeerAddress, "192.0.2.7"),
			integer(span.KeyPeerPort, 443), text(span.KeyTransport, "tcp"), integer(span.KeyBytesSent, 700), integer(span.KeyBytesReceived, 91_000)),
		made(span.Loss, 43, 40, "call-3", integer(span.KeyLost, 12), text(span.KeyLostKind, "open"), text(span.KeyLostCause, "ring_full")),
		told(203, 902, "call-3", "curl https://example.com", text(span.KeyOutcome, "ok"), text(span.KeyCallSummary, "1 program · → example.com:443"),
			integer(span.KeyHosts, 1), texts(span.KeyHostNames, "example.com:443"), integer(span.KeySumSent, 700),
			integer(span.KeySumReceived, 91_000), integer(span.KeyLost, 12), integer(span.KeyCallLeft, 1)),
		made(span.SessionEnd, 300, 1, "", integer(span.KeyCalls, 3), integer(span.KeyCallsFailed, 1), integer(span.KeyPrograms, 4),
			integer(span.KeyFilesCreated, 1), integer(span.KeySecrets, 1), integer(span.KeyHosts, 1), integer(span.KeyLost, 12),
			text(span.KeyWorkspace, "/w"), text(span.KeySessionSummary, "3 calls, 1 failed · 1 created · 1 secret · 1 host")),
	)
}

// large is one of 20 calls and 20,000 spans.
func large() *Report {
	r := of(made(span.Session, 1, 0, "", text(span.KeyCommandLine, "codex")))
	for c := range uint64(20) {
		call, at := fmt.Sprint("call-", c), 1000*(c+1)*1000
		for i := range uint64(999) {
			id, of := at+i, at+i/25*25
			switch {
			case i == 0:
				r.Span(program(id, at+999, call, "make all", 0))
			case id == of:
				r.Span(program(id, at+i/250*250, call, fmt.Sprintf("cc -O2 -c source-%d-%d.c -o object-%d.o -I/usr/include/some/where", c, i, i), 0))
			case i%40 == 1:
				r.Span(made(span.Connect, id, of, call, text(span.KeyPeerAddress, fmt.Sprint("192.0.2.", i%250)), integer(span.KeyPeerPort, 443),
					text(span.KeyTransport, "tcp"), text(span.KeyOutcome, "ok")))
			default:
				r.Span(file(id, of, call, []string{"read", "create"}[i%2], fmt.Sprintf("/home/user/work/project/some/directory/file-%d-%d", c, i),
					text(span.KeyFileInode, "123456"), text(span.KeyOutcome, "ok")))
			}
		}
		r.Span(told(at+998, at+999, call, "make all", integer(span.KeyPrograms, 40)))
	}
	return r
}

// hostile is a session in which everything that a program chooses is markup.
func hostile() *Report {
	bad := "</script><script>pwned=1</script>\"'><img src=x onerror=pwned=1>\u202e\x00\x1b[31m--><!--<script>\u2028javascript:pwned=1"
	long := bad + fmt.Sprintf("%60000s", bad)
	return of(
		made(span.Session, 1, 0, "", text(span.KeyCommandLine, bad), texts(span.KeyNotableLines, bad), text(span.KeySessionSummary, bad), text(bad, bad)),
		program(20, 900, bad, long, 1, text(span.KeyWorkingDirectory, bad), text(span.KeyExitSignal, bad), text(bad, bad), texts(bad+bad, bad, long)),
		file(21, 20, bad, "create", bad, text(span.KeyErrorType, bad), set(span.KeySensitive), text(span.KeyOutcome, "ok")),
		file(22, 20, bad, "read", long, set(span.KeySensitive), text(span.KeyOutcome, "ok")),
		made(span.Connect, 23, 20, bad, text(span.KeyServerAddress, bad), text(span.KeyPeerAddress, bad), text(span.KeyTransport, bad)),
		made(span.Telemetry, 24, 900, bad, text(span.KeyTelemetryKind, bad), text(span.KeyTelemetryWord, bad)),
		made(span.Loss, 25, 20, bad, integer(span.KeyLost, 3), text(span.KeyLostKind, bad), text(span.KeyLostCause, bad)),
		told(201, 900, bad, bad, text(span.KeyCallSummary, bad), texts(span.KeyNotableLines, bad), text(span.KeyApproval, bad),
			text(span.KeyApprovalSource, bad), text(span.KeyAttribution, "__proto__"), text("__proto__", bad), text(span.KeyGenAIToolName, bad),
			integer(span.KeyFilesCreated, 1), texts(span.KeyFilesCreatedNames, bad)),
		made(span.SandboxEnd, 202, 0, "", text(span.KeyAgentName, bad)),
	)
}
