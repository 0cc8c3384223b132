// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Duration is written with a unit ("2s", "1h30m"): a bare number would be nanoseconds, which nobody means.
type Duration time.Duration

// UnmarshalYAML implements yaml.Unmarshaler.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil {
		return fmt.Errorf("line %d: %q is not a duration: write it with a unit, as in 2s or 1h", n.Line, n.Value)
	}
	*d = Duration(v)
	return nil
}

// Size is a count of bytes, written as a number or with KiB, MiB or GiB.
type Size int64

// UnmarshalYAML implements yaml.Unmarshaler.
func (s *Size) UnmarshalYAML(n *yaml.Node) error {
	text, shift := n.Value, 0
	for unit, by := range map[string]int{"KiB": 10, "MiB": 20, "GiB": 30} {
		if t, ok := strings.CutSuffix(text, unit); ok {
			text, shift = strings.TrimSpace(t), by
		}
	}
	v, err := strconv.ParseInt(text, 10, 64)
	if n.Kind != yaml.ScalarNode || err != nil || v < 0 || v > 1<<32 {
		return fmt.Errorf("line %d: %q is not a size: write bytes, or KiB, MiB, GiB, as in 16MiB", n.Line, n.Value)
	}
	*s = Size(v << shift)
	return nil
}
