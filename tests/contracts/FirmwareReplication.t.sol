// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IFirmwareReplication} from "../../contracts/interfaces/IFirmwareReplication.sol";
import {FirmwareReplicationHandler} from "./FirmwareReplicationHandler.sol";
import {ForgeTest} from "./Forge.sol";

/// @title The numbered invariants of FirmwareReplication, checked after random calls of the handler
contract FirmwareReplicationInvariants is ForgeTest {
    FirmwareReplicationHandler private _handler;
    IFirmwareReplication private _replication;

    function setUp() external {
        _handler = new FirmwareReplicationHandler();
        _replication = _handler.replication();
    }

    /// @notice Restricts Foundry to calls of the handler.
    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    /// @notice A fixed sequence of actions, so that coverage does not depend on the seed.
    function test_theInvariantsHoldAlongAWalk() external {
        for (uint256 i = 0; i < 240; ++i) {
            _step(_mix(i, "action"), _mix(i, "who"), _mix(i, "which"), _mix(i, "seed"));
            if (i % 20 != 0) continue;
            this.invariant_R1_termsNeverChangeAndTheStatusFollowsTheArrows();
            this.invariant_R2_onlyTheVendorDecidesAndOnlyTheBrokerServes();
            this.invariant_R3_aBrokerHasOneOpenAgreementForARelease();
            this.invariant_R4_replicasAreJustThoseThatServe();
            this.invariant_R5_nothingExpiredOrRevokedIsServed();
            this.invariant_R6_idsAreGivenInSequenceAndPagesTogetherAreEverything();
            this.invariant_R7_anAddressIsBoundedAndComesAfterAcceptance();
        }
    }

    function invariant_R1_termsNeverChangeAndTheStatusFollowsTheArrows() external view {
        bytes memory stored = abi.encode(_replication.agreements(0, type(uint256).max));
        require(keccak256(stored) == keccak256(abi.encode(_handler.agreements())), "R1");
    }

    function invariant_R2_onlyTheVendorDecidesAndOnlyTheBrokerServes() external {
        for (uint64 id = _replication.agreementCount(); id != 0; id = id > 6 ? id - 6 : 0) {
            address broker = _handler.agreement(id).broker;
            _refuseTheVendorsCalls(id, broker);
            _refuseTheVendorsCalls(id, _handler.people(7));
            _refuseTheBrokersCalls(id, broker, _handler.vendor());
            _refuseTheBrokersCalls(id, broker, _handler.people(7));
        }
    }

    function invariant_R3_aBrokerHasOneOpenAgreementForARelease() external view {
        IFirmwareReplication.Agreement[] memory all = _replication.agreements(0, type(uint256).max);
        for (uint256 i = 0; i < all.length; ++i) {
            if (!_isOpen(all[i])) continue;
            for (uint256 j = 0; j < i; ++j) {
                bool sameRelease = all[i].product == all[j].product && all[i].version == all[j].version;
                require(!sameRelease || all[i].broker != all[j].broker || !_isOpen(all[j]), "R3");
            }
        }
    }

    function invariant_R4_replicasAreJustThoseThatServe() external view {
        for (uint64 version = 1; version <= _handler.VERSIONS() + 1; ++version) {
            _requireReplicas(_handler.products(0), version);
            _requireReplicas(_handler.products(1), version);
        }
    }

    function invariant_R5_nothingExpiredOrRevokedIsServed() external view {
        for (uint64 version = 1; version <= _handler.VERSIONS(); ++version) {
            for (uint256 p = 0; p < 2; ++p) {
                bytes32 product = _handler.products(p);
                IFirmwareReplication.Agreement[] memory served = _replication.replicas(product, version, 0, 100);
                require(served.length == 0 || !_handler.revoked(product, version), "R5: revoked");
                for (uint256 i = 0; i < served.length; ++i) {
                    require(served[i].expiresAt > block.timestamp, "R5: expired");
                }
            }
        }
    }

    function invariant_R6_idsAreGivenInSequenceAndPagesTogetherAreEverything() external view {
        uint64 total = _replication.agreementCount();
        require(total == _handler.agreements().length, "R6: number");
        require(_replication.agreement(0).id == 0 && _replication.agreement(total + 1).id == 0, "R6: unknown");
        for (uint64 from = 1; from <= total + 1; from += 5) {
            IFirmwareReplication.Agreement[] memory page = _replication.agreements(from, 5);
            require(page.length == (total + 1 - from < 5 ? total + 1 - from : 5), "R6: page");
            for (uint64 i = 0; i < page.length; ++i) {
                IFirmwareReplication.Agreement memory one = page[i];
                require(one.id == from + i, "R6: id");
                one = _replication.newestOf(one.product, one.version, one.broker);
                require(one.id >= page[i].id && one.broker == page[i].broker, "R6: newest");
            }
        }
    }

    function invariant_R7_anAddressIsBoundedAndComesAfterAcceptance() external view {
        IFirmwareReplication.Agreement[] memory all = _replication.agreements(0, type(uint256).max);
        for (uint256 i = 0; i < all.length; ++i) {
            require(bytes(all[i].uri).length <= 256, "R7: bound");
            require(bytes(all[i].uri).length == 0 || _handler.wasAccepted(all[i].id), "R7: before acceptance");
        }
    }

    function _step(uint256 action, uint256 who, uint256 which, uint256 seed) private {
        action %= 13;
        if (action < 3) _handler.serve(who, which, seed);
        else if (action < 5) _handler.propose(who, which, seed);
        else if (action == 5) _handler.accept(who, seed);
        else if (action == 6) _handler.decline(who, seed);
        else if (action == 7) _handler.announce(who, seed, which);
        else if (action == 8) _handler.withdraw(who, seed);
        else if (action == 9) _handler.terminate(who, seed);
        else if (action == 10) _handler.revoke(which);
        else if (action == 11) _handler.acceptAll(who, seed, which);
        else _handler.handOver();
        _handler.warp(seed);
    }

    function _requireReplicas(bytes32 product, uint64 version) private view {
        uint64[] memory ids = _handler.serving(product, version);
        IFirmwareReplication.Agreement[] memory served = _replication.replicas(product, version, 0, type(uint256).max);
        require(served.length == ids.length, "R4: number");
        for (uint256 i = 0; i < ids.length; ++i) {
            require(_same(served[i], _replication.agreement(ids[i])), "R4: list");
            IFirmwareReplication.Agreement[] memory page = _replication.replicas(product, version, i, 1);
            require(page.length == 1 && _same(page[0], served[i]), "R4: page");
        }
        require(_replication.replicas(product, version, ids.length, 3).length == 0, "R4: end");
    }

    function _refuseTheVendorsCalls(uint64 id, address sender) private {
        IFirmwareReplication.Agreement memory terms = _replication.agreement(id);
        bytes4 selector = IFirmwareReplication.NotTheVendor.selector;
        bytes memory refusal = abi.encodeWithSelector(selector, sender, _handler.vendor());
        bytes memory named = abi.encode(id, terms.broker, terms.product, terms.version, terms.expiresAt);
        bytes4[3] memory decisions = [
            _replication.accept.selector,
            _replication.decline.selector,
            _replication.terminate.selector
        ];
        for (uint256 i = 0; i < decisions.length; ++i) {
            _expect(sender, address(_replication), bytes.concat(decisions[i], named), refusal);
        }
    }

    function _refuseTheBrokersCalls(uint64 id, address broker, address sender) private {
        IFirmwareReplication.Agreement memory terms = _replication.agreement(id);
        bytes4 selector = IFirmwareReplication.NotTheBroker.selector;
        bytes memory refusal = abi.encodeWithSelector(selector, id, sender, broker);
        bytes memory call = abi.encodeCall(_replication.announce, (id, terms.product, terms.version, "x"));
        _expect(sender, address(_replication), call, refusal);
        call = abi.encodeCall(_replication.withdraw, (id, terms.product, terms.version));
        _expect(sender, address(_replication), call, refusal);
    }

    function _isOpen(IFirmwareReplication.Agreement memory one) private pure returns (bool) {
        return one.status == IFirmwareReplication.Status.Proposed || one.status == IFirmwareReplication.Status.Accepted;
    }

    function _same(
        IFirmwareReplication.Agreement memory one,
        IFirmwareReplication.Agreement memory two
    ) private pure returns (bool) {
        return keccak256(abi.encode(one)) == keccak256(abi.encode(two));
    }
}
