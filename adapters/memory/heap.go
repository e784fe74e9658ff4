package memory

// heap is a priority queue: its first element is before all others.
type heap[T interface{ before(T) bool }] []T

func (h *heap[T]) push(x T) {
	s := append(*h, x)
	i := len(s) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !x.before(s[up]) {
			break
		}
		s[i], i = s[up], up
	}
	s[i] = x
	*h = s
}

// pop removes the first element. The heap must not be empty.
func (h *heap[T]) pop() T {
	s := *h
	first, last := s[0], len(s)-1
	x := s[last]
	clear(s[last:])
	if last == 0 {
		*h = nil // a heap that was emptied holds no memory
		return first
	}
	s = s[:last]
	i := 0
	for {
		down := 2*i + 1
		if down >= last {
			break
		}
		if down+1 < last && s[down+1].before(s[down]) {
			down++
		}
		if !s[down].before(x) {
			break
		}
		s[i], i = s[down], down
	}
	s[i] = x
	*h = s
	return first
}
