// SPDX-License-Identifier: Apache-2.0

package spans

import "github.com/sheetbend/sheetbend/collector/record"

// OutOfMemory takes the word that the kernel chose a process to free memory.
func (c *Spans) OutOfMemory(_ *record.Header, _ *record.OOM) {}

// Limit takes the word that a limit of a cgroup was hit.
func (c *Spans) Limit(_ *record.Header, _ *record.Limit) {}
