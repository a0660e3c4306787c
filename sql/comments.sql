-- One sentence for every public object, in the words of its users.

comment on schema actionflow is 'Action flows: what follows when a customer changes.';
