// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/config"
	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/capture"
)

// replayShutdownWithin is how long a backend may take for the end of a replay: nobody waits for a prompt.
const replayShutdownWithin = 5 * time.Minute

func newReplay() *cobra.Command {
	var (
		s    settings
		look show
	)
	cmd := &cobra.Command{
		Use:   "replay [flags] FILE",
		Short: "Make the spans of a capture again, without root and without a kernel",
		Long: `Read a capture (sheetbend record, or sheetbend run --record) and make the same spans of it that
were made live, byte for byte. Without flags, their story is printed on standard output, and where
there is no agent their tree, both as at the end of sheetbend run.

What is noise, what folds and which agents are known is as it was configured when the capture was made:
that stands in it. What spans say of it (titles, what is notable) is as this version tells it.

Spans are sent to a backend only if --otlp-endpoint says so: OTEL_EXPORTER_OTLP_ENDPOINT alone does not.`,
		Example: `  sheetbend replay agent.capture
  sheetbend replay --output spans.jsonl agent.capture
  sheetbend replay --otlp-endpoint http://127.0.0.1:4317 --tree agent.capture`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError("replay needs one capture file, not %d", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.load()
			if err != nil {
				return err
			}
			if err := look.check(); err != nil {
				return err
			}
			look.story = look.tree || look.all || s.output == "" && s.endpoint == ""
			look.to, look.home = os.Stdout, cmp.Or(s.by.home, os.Getenv("HOME"))
			return replay(cmd.Context(), args[0], c, s.by, look)
		},
	}
	f := cmd.Flags()
	s.exporters(f)
	s.spanNames(f, "default as when it was recorded")
	f.Lookup("otlp-endpoint").Usage = "send spans over OTLP to `URL`, as in http://127.0.0.1:4317"
	f.BoolVar(&look.tree, "tree", false, "print the story and the tree, also when spans go elsewhere")
	f.BoolVar(&look.all, "all", false, "print the story and the tree with nothing folded, also when spans go elsewhere")
	look.flags(f)
	return cmd
}

func replay(ctx context.Context, name string, c *config.Config, who identity, s show) (err error) {
	f, err := who.open(name)
	if err != nil {
		return fmt.Errorf("read the capture: %w", err)
	}
	defer f.Close()
	r, err := capture.NewReader(f)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	getenv := func(key string) string {
		if key == "OTEL_EXPORTER_OTLP_ENDPOINT" || key == "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" {
			return ""
		}
		return os.Getenv(key)
	}
	log := slog.New(&notes{})
	out, err := openOutputs(c, r.Header().Sensor, who, who, who, nil, truncate, s, getenv, log)
	if err != nil {
		return err
	}
	out.shutdownWithin = replayShutdownWithin
	if out.file != nil {
		out.file.Patient()
	}
	cc := r.Header().Config
	cc.SpanNames = cmp.Or(c.SpanNames, cc.SpanNames)
	coll, err := collector.New(cc, out)
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", name, err), out.close(ctx))
	}
	if feedErr := feedCapture(coll, r, out.backPressure); feedErr != nil { // what came before is good
		err = fmt.Errorf("%s: %w", name, feedErr)
	}
	coll.Close()
	err = errors.Join(err, out.close(ctx))
	if renderErr := out.render(os.Stdout); renderErr != nil {
		err = errors.Join(err, fmt.Errorf("print the story: %w", renderErr))
	}
	for _, line := range out.dropped() {
		err = errors.Join(err, errors.New(line))
	}
	return err
}
