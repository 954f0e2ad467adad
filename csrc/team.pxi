"""The team of threads: one per process, made on first use, asleep when idle.

Every operation is a list of independent tasks (`Op`). A run of several ops is one call of the
team: all members walk the list, claim tasks of an op from a shared counter, and go on to the
next op when this one's tasks are done. Nobody waits for a member that holds no task: one that
the operating system keeps from running joins late, or not at all. Tasks split outputs, never a
sum, so that who computes what cannot change a bit.
"""

cdef extern from "platform.h" nogil:
    int64_t atomic_get(int64_t* word)
    void atomic_set(int64_t* word, int64_t x)
    int64_t atomic_add(int64_t* word, int64_t x)
    int64_t atomic_swap(int64_t* word, int64_t x)
    void pause_briefly()
    int64_t nanoseconds()
    void yield_core()
    void sleep_while(int64_t* word, int64_t value)
    void wake_all(int64_t* word)
    void forget_sleepers()
    int64_t this_thread()
    int this_cpu()
    void keep_off(int64_t thread, int cpu)
    int start_thread(void* (*body)(void*) noexcept nogil, void* argument)
    int call_after_fork_in_child(void (*function)() noexcept nogil)
    void* take_memory(size_t bytes, bint zeroed)
    void release_memory(void* memory)

cdef enum:
    MAX_THREADS = 128
    SPIN_NANOSECONDS = 50000     # how long an idle member stays awake
    SPINS_BEFORE_YIELD = 200     # in a run: then whoever is waited for may need this core
    SERIAL_NANOSECONDS = 20000   # runs estimated shorter than this stay on the calling thread
    CLAIM_NANOSECONDS = 2000     # of estimated work that a member claims at once, unless few tasks are left for the others
    CLOCK_NANOSECONDS = 10000000     # of estimated work between two looks at the clock
    SIGNAL_NANOSECONDS = 100000000   # between two looks for signals, which take the GIL

# One list of ops on its way through the team.
cdef struct Run:
    const Op* ops
    Py_ssize_t n_ops
    char* scratch                # a piece of scratch_bytes for each member
    size_t scratch_bytes
    int64_t* claimed             # tasks handed out, per op
    int64_t* done                # tasks finished, per op
    int64_t stopped              # by a signal: the rest is not computed
    int64_t last_look            # for signals, in nanoseconds; 0 before the first, INT64_MAX: nobody looks

cdef struct Team:
    int64_t call                 # number of the latest call << 8 | its members
    int64_t open                 # the call that members may join, or 0
    int64_t inside               # members that have joined, or are about to find that they may not
    int64_t[MAX_THREADS] called  # the latest call of each member: what it watches while idle
    int64_t[MAX_THREADS] asleep  # whether it sleeps until then, or is about to
    int64_t busy                 # one caller at a time
    Py_ssize_t n_started         # threads besides the caller's
    Run* run                     # of the open call
    int64_t[MAX_THREADS] threads # the operating system's numbers of the members, 0 before they start
    int[MAX_THREADS] kept_off    # the CPU that each is kept off, plus 1

cdef Team team
cdef int num_threads = 1
cdef int64_t forks = 0           # behind this process


cdef void forget_threads_after_fork() noexcept nogil:
    """The child of a fork has no threads but the one that forked: begin anew."""
    global forks
    memset(&team, 0, sizeof(Team))
    forget_sleepers()
    forks += 1


cdef int64_t first_look() except? -1:
    """`last_look` of a run that the calling thread starts: signals are for Python's main thread alone.

    Another thread must not wait for the GIL in a run: when Python exits, that would end it, and its stack with what the
    team still works on.
    """
    cdef unsigned long main = main_thread().ident
    return 0 if main == PyThread_get_thread_ident() else INT64_MAX


cdef inline void pause_or_yield(int* spins) noexcept nogil:
    spins[0] += 1
    if spins[0] < SPINS_BEFORE_YIELD:
        pause_briefly()
    else:
        yield_core()


cdef void look_for_signals(Run* run, int members) noexcept nogil:
    """Let Python handle a signal that has come in; where its handler raises, as that of Ctrl-C does, stop."""
    cdef int64_t now = nanoseconds(), forked = forks
    if run.last_look == 0:
        run.last_look = now
    if now - run.last_look > SIGNAL_NANOSECONDS:
        with gil:
            if PyErr_CheckSignals() != 0:  # the exception stays set, for who started the run
                atomic_set(&run.stopped, 1)
            elif forks != forked and members > 1:
                PyErr_SetString(RuntimeError, b"a signal's handler forked: the threads of this computation are not in "
                                              b"the child")
                atomic_set(&run.stopped, 1)
        run.last_look = nanoseconds()


cdef inline int64_t tasks_per_claim(const Op* op, int members) noexcept nogil:
    """Enough short tasks that a claim, for which the cores pass a cache line on, costs little beside them."""
    return max(<int64_t> 1, min(op.n_tasks // (4 * members), CLAIM_NANOSECONDS * op.n_tasks // (op.nanoseconds + 1)))


cdef void walk_ops(Run* run, int member, int members) noexcept nogil:
    """One member's way through the ops."""
    cdef const Op* op
    cdef Py_ssize_t i
    cdef int64_t task, first, end, at_once, per_task
    cdef int64_t unwatched = 0  # nanoseconds since the last look at the clock, by estimate
    cdef int spins
    cdef char* scratch = run.scratch + <size_t> member * run.scratch_bytes
    for i in range(run.n_ops):
        op = &run.ops[i]
        per_task = first = 0
        at_once = op.n_tasks
        if members > 1:
            at_once = tasks_per_claim(op, members)
            first = atomic_add(&run.claimed[i], at_once)
        if member == 0 and op.nanoseconds > SERIAL_NANOSECONDS and op.n_tasks > 0:
            per_task = op.nanoseconds // op.n_tasks + 1
        while first < op.n_tasks:
            end = min(op.n_tasks, first + at_once)
            for task in range(first, end):
                if unwatched > CLOCK_NANOSECONDS:
                    look_for_signals(run, members)
                    unwatched = 0
                unwatched += per_task
                if run.stopped != 0 and atomic_get(&run.stopped) != 0:
                    return
                op.task(&op.arguments, task, scratch)
            if members == 1:
                break
            atomic_add(&run.done[i], end - first)
            first = atomic_add(&run.claimed[i], at_once)
        spins = 0
        while members > 1 and atomic_get(&run.done[i]) < op.n_tasks and atomic_get(&run.stopped) == 0:
            pause_or_yield(&spins)


cdef void* member_body(void* argument) noexcept nogil:
    """A thread of the team: wait for a call, take part, wait again."""
    cdef int member = <int> <Py_ssize_t> argument
    cdef int64_t seen = 0, call, deadline
    cdef int spins
    atomic_set(&team.threads[member], this_thread())
    while True:
        call = atomic_get(&team.called[member])
        if call == seen:
            deadline = nanoseconds() + SPIN_NANOSECONDS
            while call == seen and nanoseconds() < deadline:
                for spins in range(64):
                    pause_briefly()
                call = atomic_get(&team.called[member])
            while call == seen:
                atomic_swap(&team.asleep[member], 1)
                sleep_while(&team.called[member], seen)
                atomic_swap(&team.asleep[member], 0)
                call = atomic_get(&team.called[member])
        seen = call
        atomic_add(&team.inside, 1)
        if atomic_add(&team.open, 0) == call:
            walk_ops(team.run, member, <int> (call & 0xff))
        atomic_add(&team.inside, -1)
    return NULL


cdef int start_members(int wanted) noexcept nogil:
    """Start what is missing of `wanted` threads; how many there are then, the caller's included."""
    while team.n_started < wanted - 1:
        if start_thread(member_body, <void*> (team.n_started + 1)) != 0:
            break
        team.n_started += 1
    return <int> min(<Py_ssize_t> wanted, team.n_started + 1)


cdef void call_member(int member, int64_t call) noexcept nogil:
    """Wake it if it sleeps, on another core than this one."""
    cdef int cpu
    atomic_swap(&team.called[member], call)
    if atomic_add(&team.asleep[member], 0) == 0:
        return
    cpu = this_cpu()
    if team.kept_off[member] != cpu + 1 and atomic_get(&team.threads[member]) != 0:
        keep_off(team.threads[member], cpu)
        team.kept_off[member] = cpu + 1
    wake_all(&team.called[member])


cdef void run_on_team(Run* run, int wanted) noexcept nogil:
    """Walk the ops with up to `wanted` members; alone where another caller has the team.

    If run.stopped afterwards, an exception is set.
    """
    cdef int members, member, spins = 0
    cdef int64_t call
    if wanted <= 1 or atomic_swap(&team.busy, 1) != 0:
        walk_ops(run, 0, 1)
        return
    members = start_members(wanted)
    if members > 1:
        call = (((team.call >> 8) + 1) << 8) + members
        team.run, team.call = run, call
        atomic_swap(&team.open, call)
        for member in range(1, members):
            call_member(member, call)
        walk_ops(run, 0, members)
        # Everything is computed. Let nobody else in, and wait for those who still look around in `run`.
        atomic_swap(&team.open, 0)
        while atomic_add(&team.inside, 0) > 0:
            pause_or_yield(&spins)
    else:
        walk_ops(run, 0, 1)
    atomic_swap(&team.busy, 0)


cdef int check_run(const Run* run) except -1:
    """Raise what stopped the run."""
    return -1 if run.stopped else 0


cdef int members_of_op(const Op* op) noexcept nogil:
    """How many threads an op that is a run of its own is worth."""
    if op.nanoseconds < SERIAL_NANOSECONDS:
        return 1
    return <int> max(<Py_ssize_t> 1, min(<Py_ssize_t> num_threads, op.n_tasks))


def set_num_threads(int n):
    """Use up to n threads, the caller's included (1 to 128)."""
    global num_threads
    if not 1 <= n <= MAX_THREADS:
        raise ValueError(f"number of threads must be from 1 to {MAX_THREADS}, got {n}")
    num_threads = n


def get_num_threads():
    """Threads that a run may use, the caller's included."""
    return num_threads
