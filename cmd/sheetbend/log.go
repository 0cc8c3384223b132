// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// logBurst lines with the same message are written at once, and then one each logEvery: what a sandbox does again
	// and again must not fill the disk of the host.
	logBurst = 10
	logEvery = 6 * time.Second
	// maxMessages bounds the messages that are told apart: some hold the text of an error.
	maxMessages = 256
)

// A limited handler writes lines with the same message at a bounded rate, and says with the next one how many it left
// out. Debug lines, for which somebody has asked, it writes all.
type limited struct {
	slog.Handler
	*lineLimits
}

type lineLimits struct {
	now       func() time.Time
	mu        sync.Mutex
	byMessage map[string]*lineLimit
	others    *lineLimit
}

type lineLimit struct {
	lines   *rate.Limiter
	leftOut int
}

func newLineLimit() *lineLimit {
	return &lineLimit{lines: rate.NewLimiter(rate.Every(logEvery), logBurst)}
}

func limit(h slog.Handler, now func() time.Time) limited {
	return limited{h, &lineLimits{now: now, byMessage: map[string]*lineLimit{}, others: newLineLimit()}}
}

// Handle implements slog.Handler.
func (l limited) Handle(ctx context.Context, r slog.Record) error {
	if r.Level > slog.LevelDebug {
		leftOut, ok := l.take(r.Message)
		if !ok {
			return nil
		}
		if leftOut > 0 {
			r = r.Clone()
			r.AddAttrs(slog.Int("similar_lines_left_out", leftOut))
		}
	}
	return l.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (l limited) WithAttrs(attrs []slog.Attr) slog.Handler {
	return limited{l.Handler.WithAttrs(attrs), l.lineLimits}
}

// WithGroup implements slog.Handler.
func (l limited) WithGroup(name string) slog.Handler {
	return limited{l.Handler.WithGroup(name), l.lineLimits}
}

// untold is how many lines were left out that no line has told of.
func (l *lineLimits) untold() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.others.leftOut
	for _, one := range l.byMessage {
		n += one.leftOut
	}
	return n
}

// take says whether a line may be written, and how many were left out since the one before.
func (l *lineLimits) take(message string) (leftOut int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	one := l.byMessage[message]
	if one == nil {
		if one = l.others; len(l.byMessage) < maxMessages {
			one = newLineLimit()
			l.byMessage[message] = one
		}
	}
	if !one.lines.AllowN(l.now(), 1) {
		one.leftOut++
		return 0, false
	}
	leftOut, one.leftOut = one.leftOut, 0
	return leftOut, true
}

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

// complain reports what went wrong, in one line, also when it is to be quiet.
func complain(format string, args ...any) {
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; ")
	fmt.Fprintf(os.Stderr, "sheetbend: %s\n", printable(text))
}
