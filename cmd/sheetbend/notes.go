// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// notes is a slog.Handler for run: warnings as lines for a person, below them nothing. The
// terminal belongs to the command.
type notes struct{ attrs []slog.Attr }

func (n *notes) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

func (n *notes) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Message)
	add := func(a slog.Attr) bool {
		fmt.Fprintf(&b, ", %s: %v", a.Key, a.Value)
		return true
	}
	for _, a := range n.attrs {
		add(a)
	}
	r.Attrs(add)
	complain("%s", b.String())
	return nil
}

func (n *notes) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &notes{append(n.attrs[:len(n.attrs):len(n.attrs)], attrs...)}
}

func (n *notes) WithGroup(string) slog.Handler { return n }
