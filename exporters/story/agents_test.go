// SPDX-License-Identifier: Apache-2.0

package story_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/capture"
	"github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
	"github.com/sheetbend/sheetbend/exporters/story"
)

var update = flag.Bool("update", false, "write the golden files anew")

// harness is the one of testdata/agents/my-harness.yaml.
var harness = agents.Dialect{
	Name: "my-harness", Scripts: []string{"my-harness/main.js"},
	Env: agents.Env{Session: []string{"MY_HARNESS_SESSION"}, Traceparent: agents.TraceparentCall, CallsNamed: true},
}

// golden compares what was drawn with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("go test -update writes %s anew; it is now\n%s", file, got)
	}
}

// feed gives all records of a capture to a collector with the dialects of today, and closes it.
func feed(t *testing.T, file string, sink span.Sink) {
	feedLosing(t, file, sink, &recordtest.Losing{Each: 1 << 30})
}

func feedLosing(t *testing.T, file string, sink span.Sink, l *recordtest.Losing) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	in, err := capture.NewReader(z)
	if err != nil {
		t.Fatal(err)
	}
	config := in.Header().Config
	config.Agents = agents.Merge(agents.Builtin(), []agents.Dialect{harness})
	c, err := collector.New(config, sink)
	if err != nil {
		t.Fatal(err)
	}
	for {
		raw, err := in.Next()
		if errors.Is(err, io.EOF) {
			c.Close()
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Record(l.Take(raw)); err != nil && !errors.Is(err, collector.ErrRefused) {
			t.Fatal(err)
		}
	}
}

func TestStoriesOfRecordedAgents(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("..", "..", "testdata", "agents", "*.capture.gz"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".capture.gz")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := story.New(story.Options{Zone: time.UTC, Home: "/tmp/sheetbend-agents/" + name + "/home"})
			feed(t, file, s)
			var b bytes.Buffer
			if err := s.Render(&b); err != nil {
				t.Fatal(err)
			}
			golden(t, name, b.Bytes())
		})
	}
}

// ends keeps what the accounts of agents and sandboxes say was lost.
type ends struct {
	*story.Story
	lost []string
}

func (e *ends) Span(s *span.Span) {
	a := span.Attrs(s.Attrs)
	if s.Kind == span.SessionEnd || s.Kind == span.SandboxEnd || s.Kind == span.Session && !a.Is(span.KeyPartial) && !s.StandIn {
		n, _ := a.Int(span.KeyLost)
		if n > 0 {
			e.lost = append(e.lost, fmt.Sprintf("LOST %d record", n))
		}
	}
	e.Story.Span(s)
}

// The story says of each agent, and of each sandbox without one, that as many records were lost as its account does.
func TestStoriesNameWhatTheAccountsSayWasLost(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("..", "..", "testdata", "agents", "*.capture.gz"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			e, l := &ends{Story: story.New(story.Options{Zone: time.UTC, Width: 400})}, &recordtest.Losing{Each: 23}
			feedLosing(t, file, e, l)
			var b bytes.Buffer
			if err := e.Render(&b); err != nil {
				t.Fatal(err)
			}
			text := b.String()
			for _, lost := range e.lost {
				if !strings.Contains(text, lost) {
					t.Errorf("no %q in\n%s", lost, text)
				}
				text = strings.Replace(text, lost, "", 1)
			}
			if l.Lost == 0 || strings.Contains(text, "LOST ") {
				t.Errorf("%d lost; besides the accounts:\n%s", l.Lost, text)
			}
		})
	}
}
