// SPDX-License-Identifier: Apache-2.0

package report

import (
	"strings"

	"github.com/sheetbend/sheetbend/collector/span"
)

// everywhere are the attributes of every span, or of all of a call, which the page has once.
var everywhere = map[string]bool{
	span.KeyContract: true, span.KeySeq: true, span.KeyEvent: true, span.KeyRun: true, span.KeySandboxID: true,
	span.KeyInstance: true, span.KeySessionID: true, span.KeyAgentName: true, span.KeyPID: true,
	span.KeyCreationTime: true, span.KeyExecutablePath: true, span.KeyExecutableName: true, span.KeyParentExecutable: true,
	span.KeyCgroup: true, span.KeyParentSession: true, span.KeyParentCall: true, span.KeyRootSession: true,
	span.KeyRootCall: true, span.KeyCallContext: true, span.KeyFileWrite: true, span.KeyOperationName: true,
	span.KeyGenAIAgentName: true, span.KeyCallBegan: true, span.KeyNoticed: true, span.KeyNoticeOf: true,
	span.KeyCallRoot: true, span.KeyConversationID: true,
}

// short is a key as the page has it.
func short(key string) string { return strings.TrimPrefix(key, "sheetbend.") }

// add takes attributes, but for those that are everywhere. Later ones go before earlier ones.
func (f facts) add(attrs []span.Attr) {
	size := f.size()
	for i := range attrs {
		a := &attrs[i]
		if everywhere[a.Key] || len(a.Key) > maxName || size > maxLineText {
			continue
		}
		switch a.Kind {
		case span.StringAttr:
			f[short(a.Key)] = span.Clip(a.Str, maxValue)
		case span.IntAttr:
			f[short(a.Key)] = a.Int
		case span.BoolAttr:
			f[short(a.Key)] = a.Int != 0
		case span.StringsAttr:
			list := make([]string, 0, min(len(a.List), maxListed))
			for n, v := range a.List {
				if n == maxListed || sizeOf(list) > maxList {
					list = append(list, "…")
					break
				}
				list = append(list, span.Clip(v, maxName))
			}
			f[short(a.Key)] = list
		}
		size += sizeOf(f[short(a.Key)]) + len(a.Key)
	}
}

// ofCall takes those of what is in a call, but for those that the call has.
func (f facts) ofCall(attrs []span.Attr) {
	f.add(attrs)
	for _, key := range []string{span.KeyCallID, span.KeyCallIDLevel, span.KeyToolName, span.KeyMCPServer, span.KeyMarkedBy} {
		delete(f, short(key))
	}
	if f["attribution"] != "ambiguous" {
		delete(f, "attribution")
	}
	if f["outcome"] == "ok" {
		delete(f, "outcome")
	}
}

func (f facts) size() (n int) {
	for k, v := range f {
		n += len(k) + sizeOf(v)
	}
	return n
}

func sizeOf(v any) int {
	switch v := v.(type) {
	case string:
		return len(v)
	case []string:
		n := 0
		for _, s := range v {
			n += len(s)
		}
		return n
	}
	return 8
}
