// SPDX-License-Identifier: Apache-2.0

package live

// maxJudged bounds each half of judgements. What is forgotten costs the kernel side a little more, no record.
const maxJudged = 8192

// judgements are the processes that were suspects, or below one, and are no agent's. The kernel side tells of them
// for some moments only, until it leaves them alone.
type judgements struct {
	now, before map[suspect]struct{}
}

type suspect struct {
	tgid  uint32
	start uint64
}

func (j *judgements) has(tgid uint32, start uint64) bool {
	p := suspect{tgid, start}
	_, ok := j.now[p]
	if !ok {
		_, ok = j.before[p]
	}
	return ok
}

func (j *judgements) add(tgid uint32, start uint64) {
	if j.now == nil || len(j.now) >= maxJudged {
		j.now, j.before = map[suspect]struct{}{}, j.now
	}
	j.now[suspect{tgid, start}] = struct{}{}
}

func (j *judgements) drop(tgid uint32, start uint64) {
	delete(j.now, suspect{tgid, start})
	delete(j.before, suspect{tgid, start})
}
