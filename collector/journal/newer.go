// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"errors"
	"fmt"
	"os"
)

// ErrNewer says that a newer version of sheetbend wrote a journal.
var ErrNewer = errors.New("a newer version of sheetbend wrote it: start that one, or remove the file")

// RefuseNewer gives ErrNewer for a file that Open and Replay would begin anew, although the version that wrote it can
// go on with it: its format, the number in the first line, is higher than ours.
func RefuseNewer(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return nil // Open tells
	}
	defer f.Close()
	const line = "sheetbend journal %d\n"
	var found, ours int
	_, _ = fmt.Sscanf(magic, line, &ours)
	if _, err := fmt.Fscanf(f, line, &found); err == nil && found > ours {
		return fmt.Errorf("the journal %s has format %d, and this version reads %d: %w", path, found, ours, ErrNewer)
	}
	return nil
}
