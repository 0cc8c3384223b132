// SPDX-License-Identifier: Apache-2.0

package record

import "strings"

// More is what else somebody says of a call: pairs "key=value", each ended by a NUL byte, MaxText bytes at most. It is
// his word: nobody has checked it. The zero value says nothing.
type More string

// The keys. Each may come several times.
const (
	// MorePath is an absolute path that the call is said to change or to read. A long one is left out.
	MorePath = "path"
	// MoreUntold says, with any value, that paths were left out.
	MoreUntold = "untold"
	// MoreCommand is the hash of the command that it is said to run: enrich/agents.CommandHash.
	MoreCommand = "command"
	// MoreParent is the id of the call that this one is within.
	MoreParent = "parent"
	// MoreThread is the agent's own id of the thread, or subagent, that makes the call.
	MoreThread = "thread"
	// MoreParentThread is the thread that began that one.
	MoreParentThread = "parent_thread"
	// MoreFrom and MoreTo are when the call began and ended: ns since the Unix epoch, decimal.
	MoreFrom = "from"
	MoreTo   = "to"
	// MoreOrigin is who wanted the call, if it was not the model: OriginUser. Without a call's id it is of the call whose
	// trace context is given, if there is one.
	MoreOrigin = "origin"
)

// OriginUser is the value of MoreOrigin.
const OriginUser = "user"

// With gives m with one more pair. A pair that does not fit, or that has a NUL byte in it, is left out.
func (m More) With(key, value string) More {
	if value == "" || strings.ContainsRune(value, 0) || len(m)+len(key)+len(value)+2 > MaxText {
		return m
	}
	return m + More(key+"="+value+"\x00")
}

// Get gives the first value of a key, "" if there is none.
func (m More) Get(key string) string {
	for k, v := range m.Pairs {
		if k == key {
			return v
		}
	}
	return ""
}

// Pairs goes through all pairs. What is no pair is left out.
func (m More) Pairs(yield func(key, value string) bool) {
	for rest := string(m); rest != ""; {
		var pair string
		pair, rest, _ = strings.Cut(rest, "\x00")
		if k, v, ok := strings.Cut(pair, "="); ok && !yield(k, v) {
			return
		}
	}
}
