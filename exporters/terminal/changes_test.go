// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/collector/span"
)

func list(key string, texts ...string) span.Attr {
	return span.Attr{Key: key, Kind: span.StringsAttr, List: texts}
}

func TestTheSummarySaysWhatWasChangedInTheEnd(t *testing.T) {
	sandbox := text(span.KeySandboxID, "sb-1")
	spans := []span.Span{
		exec(1, 0, 7, 0, 9*ms, "/bin/sh", exit(0), cwd("/repo"), sandbox),
		made(span.SessionCall, 2, 0, 0, ms, 5*ms, sandbox, number(span.KeyFilesCreated, 3)),                                                // the session has it, too
		made(span.SessionEnd, 3, 0, 0, ms, 5*ms, sandbox, text(span.KeyParentSession, "outer"), number(span.KeyFilesCreated, 3)),           // and the outer one
		made(span.Session, 4, 0, 0, ms, 5*ms, sandbox, number(span.KeyFilesModified, 1), list(span.KeyFilesModifiedNames, "/repo/main.c")), // an agent's
		made(span.SandboxEnd, 5, 0, 0, ms, 9*ms, sandbox,
			number(span.KeyFilesCreated, 6), list(span.KeyFilesCreatedNames, "/repo/x", "/repo/\x1b[2J", "/etc/c", "/repo/d", "/repo/e"),
			number(span.KeyFilesDeleted, 812), list(span.KeyFilesDeletedNames, "/repo/node_modules/"),
			number(span.KeyFilesRenamed, 1), list(span.KeyFilesRenamedNames, "/repo/b"), list(span.KeyFilesRenamedFrom, "/repo/a"),
			number(span.KeyFilesMore, 9), number(span.KeyFilesTemporary, 4)),
	}
	got := render(t, Options{Width: 100}, spans)
	want := `
modified  ./main.c

created   ./x, ./\x1b[2J, /etc/c, ./d … (6 names)
deleted   ./node_modules/ (812 names)
renamed   ./a -> ./b
not named 9
`
	if !strings.HasSuffix(got, want) {
		t.Errorf("got\n%s\nwant at its end\n%s", got, want)
	}
	for n := range byte(200) { // what a sandbox says is bounded
		spans = append(spans, made(span.SessionEnd, n, 0, 0, 0, ms, sandbox, number(span.KeyFilesCreated, int64(n))))
	}
	if got := render(t, Options{Width: 100}, spans); strings.Count(got, "\ncreated ") != maxChanged-1 {
		t.Error(fmt.Sprint(strings.Count(got, "\ncreated ")), "lines")
	}
}
