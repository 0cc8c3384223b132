// SPDX-License-Identifier: Apache-2.0

package spans

import "github.com/sheetbend/sheetbend/collector/record"

// Listen takes a socket that others can connect to.
func (c *Spans) Listen(_ *record.Header, _ *record.Listen) {}

// Accept takes a connection that came in.
func (c *Spans) Accept(_ *record.Header, _ *record.Accept) {}

// CloseSocket takes the end of a connection.
func (c *Spans) CloseSocket(_ *record.Header, _ *record.Close) {}
