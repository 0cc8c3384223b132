// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/enrich/marker"
	"github.com/sheetbend/sheetbend/enrich/marker/client"
)

func TestBeginAndEndReachTheStreamOfARealServer(t *testing.T) {
	var marks []record.Event
	socket := filepath.Join(t.TempDir(), "s")
	s, err := marker.Listen(marker.Options{
		Path:     socket,
		CgroupOf: func(int) (string, error) { return "/", nil },
		Clock:    func() (uint64, int64, error) { return 1, 1, nil },
		Inject: func(raw []byte) bool {
			var e record.Event
			if e.Decode(raw) != nil {
				return false
			}
			marks = append(marks, e) // the client waits for each answer
			return true
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(client.EnvSocket, socket)
	c := client.Default()
	m := client.Mark{Session: "s", Call: "c \u2028<&>", Tool: strings.Repeat("\u0001", client.MaxText), PID: os.Getpid()}
	if err := c.Begin(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if err := c.End(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	refused := &client.Error{}
	if err := c.Begin(t.Context(), client.Mark{Session: "s"}); !errors.As(err, &refused) || !strings.Contains(refused.Message, "call is missing") {
		t.Errorf("%v", err)
	}
	if _, err := c.Sessions(t.Context()); !errors.As(err, &refused) {
		t.Errorf("a server without a view: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if len(marks) != 2 || marks[0].Mark.Op != record.MarkBegin || marks[1].Mark.Op != record.MarkEnd {
		t.Fatalf("%d marks", len(marks))
	}
	for _, e := range marks {
		if e.Mark.Call != m.Call || e.Mark.Tool != m.Tool || int(e.Mark.TargetTgid) != os.Getpid() || int(e.Header.Tgid) != os.Getpid() {
			t.Errorf("%+v %+v", e.Header, e.Mark)
		}
	}
	if err := c.Begin(t.Context(), m); !errors.Is(err, client.ErrAbsent) {
		t.Errorf("without a sensor: %v", err)
	}
}

func TestAnAbsentSensorAndAMissingProcessAreToldApart(t *testing.T) {
	c := client.New(filepath.Join(t.TempDir(), "none"))
	if err := c.Begin(t.Context(), client.Mark{Call: "c"}); !errors.Is(err, client.ErrAbsent) {
		t.Errorf("%v", err)
	}
	if err := c.Begin(t.Context(), client.Mark{Call: "c", PID: 1 << 22}); err == nil || errors.Is(err, client.ErrAbsent) {
		t.Errorf("%v", err)
	}
}

func TestASensorThatDoesNotAnswerIsLeftWhenTheContextEnds(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := client.New(socket).Begin(ctx, client.Mark{Call: "c"}); err == nil {
		t.Error("no error")
	}
}

func TestAnAnswerThatIsNoneIsAnError(t *testing.T) {
	for _, answer := range []string{"", "\n", "{", "null\n", `{"ok":false}` + "\n", strings.Repeat("x", 1<<20)} {
		socket := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = conn.Write([]byte(answer))
			_ = conn.Close()
		}()
		if _, err := client.New(socket).Session(t.Context(), "s"); err == nil {
			t.Errorf("%.10q was taken", answer)
		}
		_ = l.Close()
	}
}

func TestARecordingEndsOnlyWhereTheSensorSaysSo(t *testing.T) {
	const answer = `{"ok":true,"stream":true}` + "\n"
	for stream, want := range map[string]string{
		"\x00\x00\x00\x03abc\x00\x00\x00\x01d\x00\x00\x00\x00": "abcd",
		"\x00\x00\x00\x00":    "",
		"\x00\x00\x00\x03abc": "cut off",
		"\x00\x00\x00\x05abc": "cut off",
		"\x00\x00":            "cut off",
		"\x7f\x00\x00\x00":    "no chunk",
	} {
		socket := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = conn.Write([]byte(answer + stream))
			_ = conn.Close()
		}()
		r, err := client.New(socket).Recording(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if (err == nil) != (string(got) == want) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, %v", stream, got, err)
		}
		_ = r.Close()
		_ = l.Close()
	}
}
