// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
)

// cleanups are the ends of what was begun, the last begun on top. The zero value is empty. They are not safe for
// concurrent use.
type cleanups []cleanup

type cleanup struct {
	of  string // what it ends, for its error
	end func() error
}

func (c *cleanups) add(of string, end func() error) { *c = append(*c, cleanup{of, end}) }

// run ends all, the last begun first, whatever errors there are, and joins these. What has ended is not ended again.
func (c *cleanups) run() (err error) {
	for n := len(*c) - 1; n >= 0; n = len(*c) - 1 {
		last := (*c)[n]
		*c = (*c)[:n]
		if e := last.end(); e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", last.of, e))
		}
	}
	return err
}

// onError is to be deferred by what begins several things: it ends all if that failed.
func (c *cleanups) onError(err *error) {
	if *err != nil {
		*err = errors.Join(*err, c.run())
	}
}
