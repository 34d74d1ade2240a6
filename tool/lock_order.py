# SPDX-License-Identifier: MIT
"""The order of the locks: what doc/locking.md says, held against the code. tool/check-locks runs it, over its call
graph.

The page has a fenced block "lock-order" of lines "a > b > {c, d}": b may be taken while a is held, and so on. It also
has a table of every lock, with the columns "lock" and "taken as". Every call that takes a lock must be one of the
second column. Every function is followed from callers to callees with the locks that are held, and each lock that is
taken under another must come after it in the order.

A call through a pointer reaches what the initialisers of such a struct name, or what was handed to the function. The
tool does not see what runs by another way, whether two locks of one name are the same one, and conditions: both arms
of an `if` are followed, each from its beginning.
"""
import os
import re

PAGE = "doc/locking.md"
FOLDERS = ("core/", "kvm/", "port/posix/", "cpu/")
TAKE = {"mutex_lock": "mutex_unlock", "spin_lock": "spin_unlock", "posix_lock": "posix_unlock",
        "turns_take": "turns_give",
        "pthread_mutex_lock": "pthread_mutex_unlock", "pthread_spin_lock": "pthread_spin_unlock",
        "pthread_rwlock_rdlock": "pthread_rwlock_unlock", "pthread_rwlock_wrlock": "pthread_rwlock_unlock"}
GIVE = set(TAKE.values())
# Functions that stand for a lock by their names: (lock, what they do with it).
ONE = {"mmu_read_lock": ("mmu_lock", "take"), "mmu_write_lock": ("mmu_lock", "take"),
       "mmu_retake": ("mmu_lock", "take"),
       "mmu_yield": ("mmu_lock", "nothing"), "mmu_drop": ("mmu_lock", "give"),
       "mmu_read_unlock": ("mmu_lock", "give"), "mmu_write_unlock": ("mmu_lock", "give"),
       "srcu_read_lock": ("srcu", "take"), "srcu_read_unlock": ("srcu", "give"),
       "srcu_synchronize": ("grace period", "pass"),
       "port_rcu_read_lock": ("rcu", "take"), "port_rcu_read_unlock": ("rcu", "give"),
       "rmap_lock": ("rmap bit", "take"), "rmap_unlock": ("rmap bit", "give"), "rmap_add": ("rmap bit", "pass"),
       "rmap_remove": ("rmap bit", "pass")}
# Where those are made of other locks: not followed.
INSIDE = re.compile(r"core/sync/|core/shadow/rmap\.c|port/posix/lock\.h|cpu/(\w+/)?turns\.c")
NESTS = {"srcu", "rcu"}        # may be taken again by their holder
NOT_CALLS = {"if", "while", "for", "switch", "return", "sizeof", "defined", "typeof", "__attribute__", "_Static_assert"}


class Page:
    """What the page says: self.after {lock: the locks that may be taken under it}; self.rows {lock: (how, file)}."""

    def __init__(self, text, report):
        self.after, self.rows, self.report = {}, {}, report
        blocks = re.findall(r"^```lock-order\n(.*?)^```", text, re.M | re.S)
        report.check(len(blocks) == 1, f"{PAGE}: {len(blocks)} blocks lock-order")
        for line in "".join(blocks).splitlines():
            steps = [[name.strip() for name in step.strip(" {}").split(",")] for step in line.split(" > ")]
            for name in steps[0]:
                self.after.setdefault(name, set())
            for outer, inner in zip(steps, steps[1:]):
                for name in outer:
                    self.after.setdefault(name, set()).update(inner)
        for name in [n for inner in self.after.values() for n in inner]:
            self.after.setdefault(name, set())
        for name in self.after:
            self.after[name] = self.below(name)
        for name in sorted(self.after):
            report.check(name not in self.after[name], f"{PAGE}: by the order {name} comes before itself")
        self.read_table(text)
        for name, (taken, _) in self.rows.items():
            report.check(not taken or name in self.after, f"{PAGE}: {name} is in the table, and not in the order")
        for name in self.after:
            report.check(name in self.rows, f"{PAGE}: {name} is in the order, and not in the table")

    def below(self, name):
        found, todo = set(), [name]
        while todo:
            new = self.after.get(todo.pop(), set()) - found
            found |= new
            todo += new
        return found

    def read_table(self, text):
        columns = None
        for line in text.splitlines():
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
            if "taken as" in cells and "lock" in cells:
                columns = cells
            elif not cells:
                columns = None
            elif columns and not set(line) <= set("|- "):
                row = dict(zip(columns, cells))
                link = re.search(r"\]\(\.\./([^)#]+)", row.get("where", ""))
                name = row["lock"].strip("`")
                self.report.check(name not in self.rows, f"{PAGE}: the lock {name} is in the table twice")
                self.rows[name] = (re.findall(r"`([^`]+)`", row["taken as"]), link.group(1) if link else "")

    def lock_of(self, path, expression):
        """The lock that an expression means: in a static lock's own file, or in the same top folder. None: no row."""
        for name, (taken, where) in self.rows.items():
            alone = re.fullmatch(r"\w+", expression)
            if expression in taken and (path == where if alone else path.split("/")[0] == where.split("/")[0]):
                return name
        return None


class Order:
    def __init__(self, program, page, token, jump):
        self.program, self.page, self.token, self.jump = program, page, token, jump
        self.edges, self.unknown, self.used, self.seen, self.called = {}, {}, set(), {}, set()
        self.structs, self.values = {}, {}
        for path, text in program.texts.items():
            self.read_pointers(path, text)

    def read_pointers(self, path, text):
        for m in re.finditer(r"^struct (\w+) \{(.*?)^\}", text, re.M | re.S):
            for member in re.findall(r"\(\*\s*(?:const )?(\w+)\)\s*\(", m.group(2)):
                self.structs.setdefault(member, set()).add(m.group(1))
        for m in re.finditer(r"struct (\w+) \w+(?:\[[^\]]*\])* = \{(.*?)\n?\};", text, re.S):
            by_name = dict(re.findall(r"\.(\w+) = &?(\w+)", m.group(2)))
            words = re.findall(r"\b[a-z_]\w*\b", m.group(2))
            for member, value in by_name.items() if by_name else ((None, word) for word in words):
                for f in self.program.find(path, value):
                    self.values.setdefault((m.group(1), member), []).append(f)

    def of_member(self, f, member, before):
        """The functions that a call through `something->member` may reach."""
        owner = re.search(r"(\w+)(?:\[[^\]]*\])?$", before)
        structs = self.structs.get(member, set())
        if owner:
            own = set(re.findall(r"struct (\w+) (?:const )?\*?(?:const )?" + owner.group(1) + r"\b", f.head + f.body))
            structs = own & structs or structs
        return [g for s in sorted(structs) for g in self.values.get((s, member), []) + self.values.get((s, None), [])]

    def find(self, f, name):
        """The functions that a name means: of this file, of its top folder, or of another if they are not static.

        In port/, what is not the library's is libc's, though the front end exports functions of such names: it owns the
        signals that the port would take.
        """
        found = self.program.find(f.path, name)
        if f.path.startswith("port/"):
            found = [g for g in found if not g.path.startswith("kvm/")]
        near = [g for g in found if g.path.split("/")[0] == f.path.split("/")[0]]
        return near or found

    def run(self):
        for path, text in self.program.texts.items():
            for m in re.finditer(r"(?<!void )\b(" + "|".join(TAKE) + r")\(([^;{}]*?)\);", text):
                if not INSIDE.match(path):
                    self.lock_at(path, m.group(2), f"{path}:{text.count(chr(10), 0, m.start()) + 1}")
        functions = [f for f in self.program.functions if not INSIDE.match(f.path)]
        for f in functions:
            for name in re.findall(r"\b([a-z_]\w*)\b", f.body):
                self.called.update(id(g) for g in self.find(f, name) if g is not f)
        for f in functions:                 # from those that nobody calls; then what a ring of callers hides
            if id(f) not in self.called:
                self.walk(f, frozenset(), (), ())
        known = {key[0] for key in self.seen}
        for f in functions:
            if id(f) not in known:
                self.walk(f, frozenset(), (), ())

    def lock_at(self, path, argument, where):
        expression = re.sub(r"\s|^&", "", argument.strip())
        lock = self.page.lock_of(path, expression)
        if lock is None:
            self.unknown.setdefault(where, expression)
            return None
        self.used.add((lock, expression))
        return lock

    def walk(self, f, held, handed, way):
        """Follow f, entered with these locks. handed: functions that its caller gave it. Returns what it ends with."""
        key = (id(f), held, tuple(id(g) for g in handed))
        if key in self.seen:
            return self.seen[key]
        self.seen[key] = held
        at, blocks, last, arms = held, [], 0, []
        for m in self.token.finditer(f.body):
            token = m.group()
            if token == "{":
                blocks.append(at)
            elif token == "}":
                before = blocks.pop() if blocks else held
                statements = (f.body[last:m.start()], self.program.statement(f.body, m.start()))
                gone = any(self.jump.match(statement) for statement in statements)
                end = before if gone else at
                if arms and arms[-1][0] == len(blocks):
                    end = end | arms.pop()[1]
                if re.match(r"\s*else\b", f.body[m.end():]):
                    arms.append((len(blocks), end))
                    at = before
                else:
                    at = end
            elif token.endswith("("):
                at = self.call(f, m, at, handed, (*way, f.name))
            if token in "{};":
                last = m.end()
        self.seen[key] = at
        return at

    def call(self, f, m, at, handed, way):
        name, indirect = re.search(r"\w+", m.group()).group(), m.group().startswith(("->", "."))
        if name in NOT_CALLS:
            return at
        where = self.where(f, m)
        arguments = self.arguments(f.body, m.end())
        if not indirect and name in TAKE:
            lock = self.lock_at(f.path, arguments, where)
            if lock is None:
                return at
            self.taken(f, m, at, lock, way)
            return at | {lock}
        if not indirect and name in GIVE:
            return at - {self.lock_at(f.path, arguments, where)}
        if not indirect and name in ONE:
            lock, what = ONE[name]
            self.used.add((lock, name + "()"))
            if what in ("take", "pass"):
                self.taken(f, m, at, lock, way)
            return at | {lock} if what == "take" else at - {lock} if what == "give" else at
        if indirect or name in f.pointers:
            for g in self.of_member(f, name, f.body[:m.start()]) if indirect else handed:
                self.walk(g, at, (), way)
            return at
        given = [g for word in re.findall(r"(?:^|,)\s*&?(\w+)\s*(?=,|$)", arguments)
                 if not re.search(r"\b" + word + r"\b", f.head)
                 for g in self.find(f, word)]
        ends = [self.walk(g, at, tuple(given), way) for g in self.find(f, name) if not INSIDE.match(g.path)]
        return ends[0] if ends else at

    @staticmethod
    def arguments(body, begin):
        depth, end = 1, begin
        while end < len(body) and depth:
            depth += (body[end] == "(") - (body[end] == ")")
            end += 1
        return body[begin:end - 1]

    def taken(self, f, m, held, lock, way):
        for outer in held:
            # A function that returns before it takes what its caller holds has looked.
            if outer != lock or (lock not in NESTS and "return" not in f.body[:m.start()]):
                self.edges.setdefault((outer, lock), f"{self.where(f, m)} ({' > '.join(way)})")

    @staticmethod
    def where(f, m):
        return f"{f.path}:{f.line + f.body.count(chr(10), 0, m.start()) + 1}"


def check_fork_lists(program, page, lists, report):
    """The lists of fork name the owners of static locks outermost first."""
    for names in lists:
        row = []
        for name in names:
            for f in program.by_name.get(name, []):
                row += [lock for lock in map(lambda e, f=f: page.lock_of(f.path, e), re.findall(r"&(\w+)\b", f.body))
                        if lock]
        for i, outer in enumerate(row):
            for inner in row[i + 1:]:
                report.check(outer not in page.after.get(inner, ()),
                             f"a list for fork has {outer} before {inner}, and {PAGE} the other way round")


def check(program, page_text, static_locks, fork_lists, token, jump, report):
    """static_locks: [(path, line, name)]; fork_lists: [[function names]]."""
    before = report.failed
    page = Page(page_text, report)
    if report.failed > before:
        return
    order = Order(program, page, token, jump)
    order.run()
    for where, expression in sorted(order.unknown.items()):
        report.fail(f"{where}: takes {expression}, which is in no row of {PAGE}")
    for path, line, name in static_locks:
        report.check(page.lock_of(path, name), f"{path}:{line}: the static lock {name} is in no row of {PAGE}")
    for name, (taken, where) in sorted(page.rows.items()):
        for expression in taken:
            is_inside = INSIDE.match(where)
            report.check(is_inside or (name, expression) in order.used, f"{PAGE}: nothing takes {name} as {expression}")
    for lock in sorted({lock for lock, _ in ONE.values()} & {lock for lock, _ in order.used} - set(page.rows)):
        report.fail(f"{PAGE}: {lock} is in no row")
    for (outer, inner), where in sorted(order.edges.items()):
        report.check(inner in page.after.get(outer, ()),
                     f"{where}: takes {inner} under {outer}, and {PAGE} has no {outer} > {inner}")
    check_fork_lists(program, page, fork_lists, report)


def self_test(report, check_tree):
    """check_tree(files): the report on such a tree."""
    def page(order, *rows):
        table = "".join(f"| `{name}` | {taken} | [x](../{where}) |\n" for name, taken, where in rows)
        return f"```lock-order\n{order}\n```\n\n| lock | taken as | where |\n|---|---|---|\n{table}"

    def function(name, body, head="void"):
        return f"{head} {name}(struct vm *vm)\n{{\n{body}}}\n"

    def take(lock):
        return f"\tmutex_lock(&vm->{lock});\n"

    def give(lock):
        return f"\tmutex_unlock(&vm->{lock});\n"

    a, b = ("a", "`vm->a`", "core/vm/a.h"), ("b", "`vm->b`", "core/vm/a.h")
    srcu, grace = ("srcu", "`srcu_read_lock()`", "core/sync/srcu.h"), ("grace period", "`srcu_synchronize()`",
                                                                       "core/sync/srcu.h")
    ab = page("a > b", a, b)
    nested = function("f", take("a") + take("b") + give("b") + give("a"))
    inner, end = function("g", take("a") + give("a")), give("b")
    static = "static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;\n" \
             "void h(void)\n{\n\tpthread_mutex_lock(&lock);\n\tpthread_mutex_unlock(&lock);\n}\n"
    ops = "struct ops {\n\tvoid (*call)(struct vm *vm);\n};\nstatic const struct ops ops = { .call = g };\n"
    good = [
        (ab, nested),
        (ab, take("b").join(("void f(struct vm *vm)\n{\n", end + "\tg(vm);\n}\n")) + inner),
        (ab, function("f", take("b") + "\tif (vm) {\n" + end + "\t\tg(vm);\n\t\treturn;\n\t}\n" + end) + inner),
        (ab, function("f", "\tif (vm) {\n" + take("b") + end + "\t} else {\n" + take("a") + give("a") + "\t}\n")),
        (page("a > b", a, b, ("c", "", "core/vm/a.h")), nested),
        (page("lock", ("lock", "`lock`", "core/vm/a.c")), static),
        (page("grace period > srcu", srcu, grace),
         function("f", "\tsrcu_read_lock(vm);\n\tsrcu_read_lock(vm);\n\tsrcu_read_unlock(vm);\n")
         + function("g", "\tsrcu_synchronize(vm);\n")),
    ]
    bad = [
        ("", nested),
        (page("b > a", a, b), nested),
        (page("a > b > a", a, b), nested),
        (page("a > b", a), nested),
        (page("a > b > c", a, b), nested),
        (page("a", a, b), nested),
        (page("a > b", a, a, b), nested),
        (page("a > b", a, ("b", "`vm->b` `vm->c`", "core/vm/a.h")), nested),
        (page("a > b", a, ("b", "`vm->b`", "kvm/vm/a.h")), nested),
        (ab + page("a > b"), nested),
        (ab, function("f", take("b") + take("a") + give("a") + give("b"))),
        (ab, function("f", take("b") + "\tg(vm);\n" + end) + inner),
        (ab, function("f", take("b") + "\tg(vm);\n" + end) + function("g", "\tk(vm);\n") + inner.replace("g(", "k(")),
        (ab, function("f", take("b") + "\tif (vm) {\n\t\tg(vm);\n\t}\n" + end) + inner),
        (ab, function("f", "\tif (vm) {\n" + take("b") + "\t} else {\n" + take("b") + "\t}\n\tg(vm);\n" + end) + inner),
        (ab, function("f", "\tk(vm);\n\tg(vm);\n" + end) + function("k", take("b")) + inner),
        (ab, inner + ops + function("f", take("b") + "\tops->call(vm);\n" + end)),
        (ab, inner + function("f", take("b") + "\teach(vm, g);\n" + end)
         + "void each(struct vm *vm, void (*call)(struct vm *vm))\n{\n\tcall(vm);\n}\n"),
        (ab, nested + function("k", take("a") + take("a"))),
        (ab, nested + function("k", take("new"))),
        (ab, nested + static),
        (page("lock", ("lock", "`lock`", "core/vm/b.c")), static),
        (page("grace period > srcu", srcu, grace), function("f", "\tsrcu_read_lock(vm);\n\tsrcu_synchronize(vm);\n")),
    ]
    for text, code in bad + good:
        failed = check_tree({PAGE: text, "core/vm/a.c": code})
        report.check((failed.failed > 0) == ((text, code) in bad),
                     f"check-locks --self-test: {text!r}, {code!r}: {failed.messages}")
