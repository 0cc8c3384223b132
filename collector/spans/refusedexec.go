// SPDX-License-Identifier: Apache-2.0

package spans

import "github.com/sheetbend/sheetbend/collector/record"

// ExecFailed takes an exec that was refused.
func (c *Spans) ExecFailed(_ *record.Header, _ *record.ExecFailed) {}
