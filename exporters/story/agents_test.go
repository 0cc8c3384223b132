// SPDX-License-Identifier: Apache-2.0

package story_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/capture"
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
func feed(t *testing.T, file string, sink *story.Story) {
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
		if err := c.Record(raw); err != nil && !errors.Is(err, collector.ErrRefused) {
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
