// SPDX-License-Identifier: Apache-2.0

package chaostest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sheetbend/sheetbend/enrich/marker/client"
)

// What must not grow, and by how much the median of the last quarter may lie above that of the first, after the
// warm-up: the load changes all the time, so both are noisy.
var flat = []struct {
	name  string
	ratio float64
	more  float64
}{
	{"memory (MiB, anonymous)", 1.15, 4},
	{"descriptors", 1, 6},
	{"goroutines", 1, 12},
	{"threads", 1, 6},
	{"map entries", 1.1, 64},
	{"processes known", 1.1, 64},
	{"spans held", 1.1, 256},
}

// sample gives the values of flat.
func (s *sensor) sample() ([]float64, error) {
	all, err := s.scrape()
	if err != nil {
		return nil, err
	}
	proc := fmt.Sprintf("/proc/%d/", s.cmd.Process.Pid)
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		return nil, err
	}
	field := func(name string) float64 {
		for line := range strings.Lines(string(status)) {
			if value, ok := strings.CutPrefix(line, name+":"); ok {
				n, _ := strconv.ParseFloat(strings.Fields(value)[0], 64)
				return n
			}
		}
		return 0
	}
	fds, err := os.ReadDir(proc + "fd")
	if err != nil {
		return nil, err
	}
	entries, err := mapEntries(proc)
	if err != nil {
		return nil, err
	}
	return []float64{
		field("RssAnon") / 1024, float64(len(fds)), all["go_goroutines"], field("Threads"), float64(entries),
		all["sheetbend_processes"], all["sheetbend_spans_held"],
	}, nil
}

var mapID = regexp.MustCompile(`(?m)^map_id:\s+(\d+)$`)

// mapEntries counts what is in the hash maps of a process.
func mapEntries(proc string) (int, error) {
	infos, err := filepath.Glob(proc + "fdinfo/*")
	if err != nil {
		return 0, err
	}
	total := 0
	seen := map[int]bool{}
	for _, name := range infos {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // closed meanwhile
		}
		m := mapID.FindSubmatch(text)
		if m == nil {
			continue
		}
		id, _ := strconv.Atoi(string(m[1]))
		if seen[id] {
			continue
		}
		seen[id] = true
		n, err := entries(ebpf.MapID(id))
		if err != nil {
			return 0, err
		}
		total += n
	}
	if len(seen) == 0 {
		return 0, errors.New("the sensor has no BPF maps")
	}
	return total, nil
}

func entries(id ebpf.MapID) (int, error) {
	m, err := ebpf.NewMapFromID(id)
	if err != nil {
		return 0, err
	}
	defer m.Close()
	switch m.Type() {
	case ebpf.Hash, ebpf.LRUHash, ebpf.PerCPUHash, ebpf.LRUCPUHash:
	default:
		return 0, nil
	}
	n := 0
	var at any // nil: the first
	for ; n < int(m.MaxEntries()); n++ {
		next := make([]byte, m.KeySize())
		if m.NextKey(at, next) != nil {
			break
		}
		at = next
	}
	return n, nil
}

// telemetry sends what an agent would tell of its calls.
func telemetry(ctx context.Context, conn *grpc.ClientConn, i int) error {
	logs := plog.NewLogs()
	rl := logs.ResourceLogs().AppendEmpty()
	rl.Resource().Attributes().PutStr("service.name", "claude-code")
	rec := rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	rec.Attributes().PutStr("event.name", "tool_result")
	rec.Attributes().PutStr("session.id", "soak")
	rec.Attributes().PutStr("tool_use_id", "call-"+strconv.Itoa(i))
	_, err := plogotlp.NewGRPCClient(conn).Export(ctx, plogotlp.NewExportRequestFromLogs(logs))
	return err
}

// A sensor under a load that changes all the time, with a backend that comes and goes, stays as small as it was.
func TestTheSensorStaysAsSmallAsItWas(t *testing.T) {
	d := 20 * time.Second
	if text := os.Getenv("SHEETBEND_SOAK"); text != "" {
		var err error
		if d, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	sockets := t.TempDir()
	socket, intake := filepath.Join(sockets, "api.sock"), filepath.Join(sockets, "otlp.sock")
	c := newScene(t, "call_retention: 1m") // what is kept for so long is what it comes to within the warm-up
	c.config = strings.Replace(c.config, "socket: ''", fmt.Sprintf("socket: %s\nintake: {unix: %s}", socket, intake), 1)
	c.config = strings.Replace(c.config, "sandboxes: [", "agents: [{name: soaker, executables: [sheetbend-soaker]}]\nsandboxes: [{agents: [soaker]}, ", 1)
	agent := filepath.Join(t.TempDir(), "sheetbend-soaker") // an agent by its name; it does what the generator does
	if out, err := exec.Command("cp", c.l.program.Path(), agent).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	stop := c.b.serve(t)
	c.b.forget = true // what is counted here lives in the sensor
	c.start()
	conn, err := grpc.NewClient("unix:"+intake, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	api := client.New(socket)

	var samples [][]float64
	begin := time.Now()
	told := begin
	for i := 0; time.Since(begin) < d || len(samples) < 40; i++ {
		sandbox := "soak" + strconv.Itoa(i)
		mark := client.Mark{Session: "soak-" + strconv.Itoa(i%50), Call: "call-" + strconv.Itoa(i), Tool: "bash", Cgroup: c.l.cgroup + "/" + sandbox, Source: client.SourceHook}
		c.l.before = func() {
			if err := api.Begin(t.Context(), mark); err != nil {
				t.Log("mark:", err) // the sensor has limits of its own
			}
		}
		c.l.round(t, sandbox, []int{5, 20, 60, 1}[i%4])
		_ = api.End(t.Context(), mark)
		if err := telemetry(t.Context(), conn, i); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			if out, err := exec.Command(agent, "storm", "5").CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		switch i % 20 {
		case 9:
			stop()
		case 14:
			stop = c.b.serve(t)
		}
		s, err := c.s.sample()
		if err != nil {
			t.Fatal(err)
		}
		samples = append(samples, s)
		if time.Since(told) > time.Minute {
			told = time.Now()
			t.Logf("%s: %s", time.Since(begin).Round(time.Second), row(s))
		}
	}
	c.s.Stop()

	// A fifth is warm-up: the heap finds its size, and the buffers theirs.
	samples = samples[len(samples)/5:]
	quarter := len(samples) / 4
	first, last := medians(samples[:quarter]), medians(samples[len(samples)-quarter:])
	done := c.l.generated()
	t.Logf("%s, %d rounds, %d programs, %d files, %d connects told of", time.Since(begin).Round(time.Second), len(samples)*5/4, done["exec"], done["open"], done["connect"])
	t.Logf("first quarter: %s", row(first))
	t.Logf("last quarter:  %s", row(last))
	if d < 10*time.Minute {
		// The heap has not found its size yet: the longer run judges that.
		last[0] = min(last[0], first[0])
	}
	for _, w := range grown(first, last) {
		t.Error(w)
	}
}

func medians(samples [][]float64) []float64 {
	out := make([]float64, len(flat))
	for i := range flat {
		var column []float64
		for _, s := range samples {
			column = append(column, s[i])
		}
		slices.Sort(column)
		out[i] = column[len(column)/2]
	}
	return out
}

// grown says what is more than it may be.
func grown(first, last []float64) (what []string) {
	for i, f := range flat {
		if limit := first[i]*f.ratio + f.more; last[i] > limit {
			what = append(what, fmt.Sprintf("%s grew from %.1f to %.1f, more than %.1f", f.name, first[i], last[i], limit))
		}
	}
	return what
}

func row(s []float64) string {
	var parts []string
	for i, f := range flat {
		parts = append(parts, fmt.Sprintf("%s %.1f", f.name, s[i]))
	}
	return strings.Join(parts, ", ")
}

func TestASoakSeesWhatGrows(t *testing.T) {
	var steady, leaking [][]float64
	for i := range 100 {
		noise := float64(i % 7)
		steady = append(steady, []float64{20 + noise/10, 30 + noise/2, 40 + noise, 10, 500 + noise, 90 + noise, 100 + noise})
		leaking = append(leaking, []float64{20 + float64(i)/10, 30 + float64(i), 40 + noise, 10, 500 + 5*float64(i), 90 + noise, 100 + noise})
	}
	if got := grown(medians(steady[:25]), medians(steady[75:])); got != nil {
		t.Errorf("noise: %q", got)
	}
	if got := grown(medians(leaking[:25]), medians(leaking[75:])); len(got) != 3 {
		t.Errorf("want memory, descriptors and map entries: %q", got)
	}
}
