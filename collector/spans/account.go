// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"hash/maphash"
	"slices"

	"github.com/sheetbend/sheetbend/collector/notable"
	"github.com/sheetbend/sheetbend/collector/span"
)

// Bounds of an account: of the destinations that are told apart, in one, in a sandbox and in all; of its lists; and of
// one text in them, in bytes.
const (
	maxHosts        = 1024
	maxSandboxHosts = maxAllHosts / sandboxPart
	maxAllHosts     = 1 << 17
	maxNames        = 10
	maxListens      = 64
	maxAccountName  = 256
)

// maxCallBytes bounds a session.call; on the other spans accountWeight is what an account takes with its workspace, and
// accountLists of that what its lists take. All are bytes as encoded.
const (
	maxCallBytes  = 8 << 10
	accountLists  = 8 << 10
	accountWeight = accountLists + maxWorkspace + 2<<10
)

// An account is what the spans of a call, an agent or a sandbox add up to: docs/spans.md, "The account".
type account struct {
	first uint64 // when the first of them began, ns since the Unix epoch; 0: none so far

	programs, failed, read, refused, secrets, outside, sent, received, cpu, memory, lost int64

	secretNames, outsideNames []string

	notes notes

	secretVerb string // of the first of the names
	hosts      map[uint64]traffic
	hostNames  []host // of those, that with the most traffic
	room       *room  // that hosts takes from
	listens    []listening
}

// A listening is an address at which a process listens.
type listening struct {
	tgid    uint32
	start   string // process.creation.time
	address string
}

// An entry is what one span adds to an account.
type entry struct {
	account
	secret, outsideName string
	host                destination
	closed              bool // of a connection to it that has ended
	listen              listening
	notable             notable.Event // without a name: none
}

// accounts has what is added at the moment.
type accounts struct {
	room  room
	seed  maphash.Seed
	entry entry
}

// tally reads what a span adds. It reports false where that is nothing.
func (c *out) tally(s *span.Span) bool {
	e := &c.spans.accounts.entry
	*e = entry{account: account{first: s.Start}}
	if s.StandIn {
		return false
	}
	if event, is := notable.Of(s); is {
		e.notable = event
		c.builder.trusted(span.KeyNotableEvent, event.Name)
		c.builder.trusted(span.KeyNotableSeverity, event.Severity.String())
	}
	switch s.Kind {
	case span.Exec, span.Start, span.Exit, span.Open, span.Change, span.Connect, span.ConnectStart, span.Close, span.Listen, span.Loss:
		e.of(s)
		return true
	}
	return e.notable.Name != ""
}

// commonAttrs are the attributes at the begin of each span, none of which count.
const commonAttrs = 7

// of reads what counts of a span.
func (e *entry) of(s *span.Span) {
	var count, port, localPort, pid, sent, received int64 = 1, 0, 0, 0, 0, 0
	var outcome, access, path, server, transport, local, created, known, operation string
	var sensitive, outside, noticed, worker, tainted bool
	for i := commonAttrs; i < len(s.Attrs); i++ {
		a := &s.Attrs[i]
		switch a.Key {
		case span.KeyCount:
			count = a.Int
		case span.KeyOutcome:
			outcome = a.Str
		case span.KeyFileAccess:
			access = a.Str
		case span.KeyFileOperation:
			operation = a.Str
		case span.KeyKnown:
			known = a.Str
		case span.KeyTainted:
			tainted = true
		case span.KeyFilePath:
			path = a.Str
		case span.KeySensitive:
			sensitive = true
		case span.KeyOutside:
			outside = true
		case span.KeyNoticed:
			noticed = true
		case span.KeyWorker:
			worker = true
		case span.KeyServerAddress:
			server = a.Str
		case span.KeyServerPort:
			port = a.Int
		case span.KeyTransport:
			transport = a.Str
		case span.KeyLocalAddress:
			local = a.Str
		case span.KeyLocalPort:
			localPort = a.Int
		case span.KeyPID:
			pid = a.Int
		case span.KeyCreationTime:
			created = a.Str
		case span.KeyBytesSent:
			sent = a.Int
		case span.KeyBytesReceived:
			received = a.Int
		case span.KeyCPUTime:
			e.cpu = a.Int
		case span.KeyPeakMemory:
			e.memory = a.Int
		case span.KeyLost:
			e.lost = a.Int
		}
	}
	if tainted {
		known = "" // another one decides what it does
	}
	done := outcome == string(span.OK)
	switch s.Kind {
	case span.Exec, span.Start, span.Exit:
		if s.Kind == span.Start || s.Kind == span.Exec && !noticed {
			e.programs = 1
		}
		if s.Failed && !worker {
			e.failed = 1
		}
	case span.Open, span.Change:
		if done && access == "read" {
			e.read = count
		}
		refused := outcome == string(span.Refused)
		if refused {
			e.refused = count
		}
		if sensitive && (done || refused) && !notable.TouchesNone(known, access, operation, path) {
			e.secrets, e.secret = count, path
			switch {
			case refused:
				e.secretVerb = "refused"
			case s.Kind == span.Open && access == "read":
				e.secretVerb = "read"
			default:
				e.secretVerb = "touched"
			}
		}
		if outside {
			e.outside, e.outsideName = count, path
		}
	case span.Connect, span.ConnectStart:
		if server != "" && !(s.Kind == span.Connect && noticed) {
			e.host = destination{server, port}
		}
	case span.Close:
		e.sent, e.received, e.host, e.closed = sent, received, destination{server, port}, true
	case span.Listen:
		if done && transport == "unix" {
			e.listen = listening{uint32(pid), created, span.Clip(local, maxAccountName)}
		} else if done {
			e.listen = listening{uint32(pid), created, destination{local, localPort}.String()}
		}
	}
}

// count adds the span at hand to the accounts of whom it is of: of a call until that is told, of the agent, and of what
// these were started in; of the sandbox without an agent.
func (c *out) count() {
	d := &c.builder
	if !c.tally(&d.span) {
		return
	}
	e, w := &c.spans.accounts.entry, d.owner
	if w.Agent == nil {
		if s := c.spans.toldOf(d.sandbox); !s.told {
			c.add(&s.account, e)
		}
		return
	}
	rooms := &c.spans.toldOf(d.sandbox).hosts
	var told *agentStory
	for n := 0; n < maxAround && w.Agent != nil; n++ {
		if w.Call != nil && !(n == 0 && w.Left) {
			if s, waits := w.Call.Pending.(*callStory); waits && (n == 0 || !s.over || d.span.Start <= s.ended+c.spans.clock.Offset) {
				s.account.fill(rooms)
				c.add(&s.account, e)
			}
		}
		if s := storyOf(w); s != nil && !s.told && s != told {
			s.account.fill(rooms)
			c.add(&s.account, e)
			told = s
		}
		if d.each {
			return
		}
		w = w.Within()
	}
}

func (c *out) add(a *account, e *entry) {
	if a.first == 0 || e.first < a.first {
		a.first = e.first
	}
	a.programs += e.programs
	a.failed += e.failed
	a.read += e.read
	a.refused += e.refused
	a.secrets += e.secrets
	a.outside += e.outside
	a.sent += e.sent
	a.received += e.received
	a.cpu += e.cpu
	a.memory = max(a.memory, e.memory)
	a.lost += e.lost
	if e.secret != "" {
		if secretRank[e.secretVerb] > secretRank[a.secretVerb] { // what matters most comes first
			a.secretVerb = e.secretVerb
			name := span.Clip(e.secret, maxAccountName)
			a.secretNames = slices.DeleteFunc(a.secretNames, func(known string) bool { return known == name })
			a.secretNames = slices.Insert(a.secretNames[:min(len(a.secretNames), maxNames-1)], 0, name)
		}
		keepDistinct(&a.secretNames, e.secret)
	}
	keepDistinct(&a.outsideNames, e.outsideName)
	c.addHost(a, e)
	if e.notable.Name != "" {
		a.notes.add(e.notable)
	}
	if e.listen.address != "" && len(a.listens) < maxListens && !slices.Contains(a.listens, e.listen) {
		a.listens = append(a.listens, e.listen)
	}
}

// secretRank orders what was done to secrets.
var secretRank = map[string]int{"refused": 1, "touched": 2, "read": 3}

// keepDistinct adds a name that is not there, while there are few.
func keepDistinct(list *[]string, name string) {
	if name == "" || len(*list) >= maxNames {
		return
	}
	if name = span.Clip(name, maxAccountName); !slices.Contains(*list, name) {
		*list = append(*list, name)
	}
}

// drop forgets an account.
func (a *account) drop() {
	a.room.give(len(a.hosts))
	*a = account{room: a.room}
}

// did says whether there is anything to tell of.
func (a *account) did() bool {
	return a.programs+a.failed+a.read+a.refused+a.secrets+a.outside+a.sent+a.received+a.cpu+a.lost > 0 ||
		len(a.hosts)+len(a.notes.lines) > 0
}

// addAccount adds what there is in an account, with lists of so many bytes at most.
func (c *Spans) addAccount(d *builder, a *account, bytes int) {
	notables, kinds := a.notes.sums()
	for _, n := range []struct {
		key   string
		count int64
	}{
		{span.KeyPrograms, a.programs}, {span.KeyProgramsFailed, a.failed},
		{span.KeyFilesRead, a.read}, {span.KeyFilesRefused, a.refused},
		{span.KeySecrets, a.secrets}, {span.KeyOutsideCount, a.outside}, {span.KeyHosts, int64(len(a.hosts))},
		{span.KeySumSent, a.sent}, {span.KeySumReceived, a.received},
		{span.KeySumCPU, a.cpu}, {span.KeySumMemory, a.memory}, {span.KeyNotables, notables}, {span.KeyLost, a.lost},
	} {
		if n.count > 0 {
			d.int(n.key, n.count)
		}
	}
	if len(kinds) > 0 {
		d.span.Attrs = append(d.span.Attrs, span.Attr{Key: span.KeyNotableCounts, Kind: span.StringsAttr, List: kinds})
	}
	hosts, bytesOf := a.traffics()
	lists := [...]struct {
		key  string
		list []string
	}{
		{span.KeySecretNames, a.secretNames}, {span.KeyOutsideNames, a.outsideNames},
		{span.KeyHostBytes, bytesOf}, {span.KeyHostNames, hosts}, {span.KeyNotableLines, a.notes.texts()},
	}
	for i, l := range lists { // each has its share, and what those before it have left
		bytes -= d.listWithin(l.key, l.list, bytes/(len(lists)-i))
	}
}

// listWithin adds as many texts of a list, all UTF-8, as fit into so many bytes. It says how many they take.
func (d *builder) listWithin(key string, list []string, bytes int) (taken int) {
	n := 0
	for taken = attrCost + len(key); n < len(list) && taken+len(list[n])+textCost <= bytes; n++ {
		taken += len(list[n]) + textCost
	}
	if n == 0 {
		return 0
	}
	d.span.Attrs = append(d.span.Attrs, span.Attr{Key: key, Kind: span.StringsAttr, List: list[:n:n]})
	return taken
}

// What an attribute, a text in a list and a link take besides their texts, and what each span takes, as encoded; or a
// little more.
const (
	attrCost = 20
	textCost = 8
	linkCost = 64
	spanCost = 120

	accountCost = 14*(attrCost+32) + notable.Kinds*(textCost+32) // the numbers of an account
)

// encodedSize is about what a span takes as encoded, and not less.
func encodedSize(s *span.Span) int {
	n := spanCost + len(s.Name) + len(s.Status) + len(s.Links)*linkCost
	for i := range s.Attrs {
		a := &s.Attrs[i]
		n += attrCost + len(a.Key) + len(a.Str)
		for _, text := range a.List {
			n += textCost + len(text)
		}
	}
	return n
}
